package lab

import (
	"context"
	"strconv"

	"github.com/socketplane/socketplane/internal/testenv"
)

// registryPort is free on every host.
const registryPort = 5000

// StartRegistry runs a registry of images and plugins on the host's loopback, which Docker trusts without TLS, and gives its address. It keeps
// its content in memory.
func (h *Host) StartRegistry(ctx context.Context) (string, error) {
	tool, err := testenv.Tool("registry")
	if err != nil {
		return "", err
	}
	p, err := h.daemon("registry", nil, tool, "-port", strconv.Itoa(registryPort))
	if err != nil {
		return "", err
	}
	if err := p.Start(); err != nil {
		return "", err
	}
	addr := joinPort("127.0.0.1", registryPort)
	return addr, h.await(ctx, "the registry", p, func() bool {
		_, err := h.Exec(ctx, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/"+strconv.Itoa(registryPort))
		return err == nil
	})
}
