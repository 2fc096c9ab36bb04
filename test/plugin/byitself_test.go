package plugin

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/test/lab"
)

// TestByItself: on hosts with neither Open vSwitch nor Consul the plugin that carries both makes them one cluster, and containers talk.
func TestByItself(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	consul, err := testenv.ConsulBinary()
	if err != nil {
		testenv.Missing(t, err.Error())
	}
	w := prepare(ctx, t, lab.Options{Hosts: 2, NoOVS: true}, consul)
	w.each(t, func(h *lab.Host) error {
		if err := h.CreatePlugin(ctx, w.dir); err != nil {
			return err
		}
		// The lab's Consul is not for them.
		if _, err := h.Docker(ctx, "plugin", "set", lab.PluginName, "SOCKETPLANE_CONSUL_ADDR="); err != nil {
			return err
		}
		if err := h.EnablePlugin(ctx); err != nil {
			return err
		}
		return h.WaitPluginReady(ctx)
	})
	w.until(ctx, t, "the hosts are one cluster", func() error {
		for _, h := range w.Hosts {
			out, err := h.SocketPlane(ctx, "host", "ls", "--quiet")
			if err != nil || strings.Count(out, "\n") != 2 {
				return fmt.Errorf("hosts that %s knows: %q, %w", h.Name, out, err)
			}
		}
		return nil
	})
	w.web(ctx, t)
	w.talk(ctx, t)
	w.gone(ctx, t)
}
