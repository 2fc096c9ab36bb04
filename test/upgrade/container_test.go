package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/socketplane/socketplane/test/lab"
)

// attachment is a container's place on a network, as Docker tells it.
type attachment struct {
	IPAddress, GlobalIPv6Address, MacAddress string
}

// container is a running container.
type container struct {
	h    *lab.Host
	name string
	pid  int // in the host's PID namespace
	on   map[string]attachment
}

// run starts a container that waits for ever.
func run(ctx context.Context, h *lab.Host, name, network string, args ...string) (*container, error) {
	argv := append([]string{"run", "-d", "--name", name, "--label", "of=" + h.Name, "--network", network}, args...)
	if _, err := h.Docker(ctx, append(argv, lab.ImageName)...); err != nil {
		return nil, err
	}
	return inspect(ctx, h, name)
}

func inspect(ctx context.Context, h *lab.Host, name string) (*container, error) {
	out, err := h.Docker(ctx, "inspect", "-f", "{{.State.Pid}} {{json .NetworkSettings.Networks}}", name)
	if err != nil {
		return nil, err
	}
	c := &container{h: h, name: name}
	pid, text, _ := strings.Cut(out, " ")
	if err := json.Unmarshal([]byte(text), &c.on); err != nil {
		return nil, fmt.Errorf("docker inspect %s: %w: %s", name, err, out)
	}
	if c.pid, err = strconv.Atoi(pid); err != nil || c.pid == 0 {
		return nil, fmt.Errorf("container %s does not run: %s", name, out)
	}
	return c, nil
}

// command runs a program of the image in the container's namespaces. It does not go through Docker, which takes many times as long.
func (c *container) command(argv ...string) []string {
	return append([]string{"nsenter", "--target", strconv.Itoa(c.pid), "--mount", "--net", "--uts"}, argv...)
}

// reaches waits until another container answers a ping: other hosts learn of a container a moment after it started.
func (c *container) reaches(ctx context.Context, other *container, network string) error {
	for _, addr := range []string{other.on[network].IPAddress, other.on[network].GlobalIPv6Address} {
		if addr == "" {
			continue
		}
		if err := until(ctx, func(ctx context.Context) error {
			_, err := c.h.Exec(ctx, c.command("ping", "-n", "-c", "1", "-W", "1", addr)...)
			return err
		}); err != nil {
			return fmt.Errorf("%s of %s does not reach %s of %s on %s: %w", c.name, c.h.Name, other.name, other.h.Name, network, err)
		}
	}
	return nil
}
