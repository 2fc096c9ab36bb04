package upgrade

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/socketplane/socketplane/test/lab"
)

// The networks of the standing containers: one with SocketPlane's addresses, and one with Docker's own IPAM, which is made from another host.
const (
	own    = "web"
	docker = "data"
)

// settle makes the networks and containers that are there all the time.
func (w *world) settle(ctx context.Context) {
	w.t.Helper()
	for i, argv := range [][]string{
		{"--ipam-driver", "socketplane", "--ipv6", own},
		{"--subnet", "10.77.0.0/24", docker},
	} {
		if _, err := w.Hosts[i].Docker(ctx, append([]string{"network", "create", "-d", "socketplane"}, argv...)...); err != nil {
			w.t.Fatal(err)
		}
		w.has(ctx, argv[len(argv)-1])
	}
	made := make([][]*container, hosts)
	w.each(func(h *lab.Host) error {
		i := w.index(h)
		for name, network := range map[string]string{"server": own, "base": docker} {
			c, err := run(ctx, h, name, network)
			if err != nil {
				return err
			}
			made[i] = append(made[i], c)
		}
		return nil
	})
	for _, some := range made {
		w.standing = append(w.standing, some...)
	}
}

func (w *world) index(h *lab.Host) int {
	for i := range w.Hosts {
		if w.Hosts[i] == h {
			return i
		}
	}
	return -1
}

// has waits until all hosts have a network.
func (w *world) has(ctx context.Context, network string) {
	w.t.Helper()
	w.each(func(h *lab.Host) error {
		return until(ctx, func(ctx context.Context) error { _, err := h.Docker(ctx, "network", "inspect", network); return err })
	})
}

// lacks waits until no host has a network.
func (w *world) lacks(ctx context.Context, network string) {
	w.t.Helper()
	w.each(func(h *lab.Host) error {
		return until(ctx, func(ctx context.Context) error {
			out, err := h.Docker(ctx, "network", "ls", "-q", "--filter", "name=^"+network+"$")
			if err == nil && out != "" {
				err = fmt.Errorf("%s still has the network %s", h.Name, network)
			}
			return err
		})
	})
}

// understand shows that the agents understand each other, whichever release each is of: containers that start on each host are reached from all others, on a
// network that is there and on one that is made on a host, another one each time; another host removes that one, and it is gone from all.
func (w *world) understand(ctx context.Context) {
	w.t.Helper()
	w.rounds++
	maker := w.rounds % hosts
	name, fresh := "guest"+strconv.Itoa(w.rounds), "fresh"+strconv.Itoa(w.rounds)
	create := []string{"network", "create", "-d", "socketplane", "--ipam-driver", "socketplane", fresh}
	if _, err := w.Hosts[maker].Docker(ctx, create...); err != nil {
		w.t.Fatal(err)
	}
	w.has(ctx, fresh)
	guests := make([]*container, hosts)
	w.each(func(h *lab.Host) (err error) {
		if _, err = run(ctx, h, name, own); err == nil {
			_, err = h.Docker(ctx, "network", "connect", fresh, name)
		}
		if err == nil {
			guests[w.index(h)], err = inspect(ctx, h, name)
		}
		return err
	})
	w.apart(guests)
	var group errgroup.Group
	for _, c := range guests {
		for _, other := range guests {
			group.Go(func() error { return errors.Join(c.reaches(ctx, other, own), c.reaches(ctx, other, fresh)) })
		}
		for _, other := range w.standing {
			if _, is := other.on[own]; is {
				group.Go(func() error { return errors.Join(c.reaches(ctx, other, own), other.reaches(ctx, c, own)) })
			}
		}
	}
	if err := group.Wait(); err != nil {
		w.t.Fatal(err)
	}
	w.told(ctx, guests)
	w.each(func(h *lab.Host) error { _, err := h.Docker(ctx, "rm", "-f", name); return err })
	if _, err := w.Hosts[(maker+1)%hosts].Docker(ctx, "network", "rm", fresh); err != nil {
		w.t.Fatal(err)
	}
	w.lacks(ctx, fresh)
	w.same(ctx)
}

// apart fails the test if two containers have one address, or one MAC.
func (w *world) apart(guests []*container) {
	w.t.Helper()
	seen := map[string]string{}
	for _, c := range append(append([]*container{}, w.standing...), guests...) {
		me := c.name + " of " + c.h.Name
		for network, a := range c.on {
			for _, addr := range []string{a.IPAddress, a.GlobalIPv6Address, a.MacAddress} {
				if other := seen[network+" "+addr]; addr != "" && other != "" {
					w.t.Errorf("%s has %s on %s, and so has %s", me, addr, network, other)
				}
				seen[network+" "+addr] = me
			}
		}
	}
}

// same fails the test if a standing container is not where it was, or if the cluster's claim of its address is another host's.
func (w *world) same(ctx context.Context) {
	w.t.Helper()
	claims := w.claims(ctx)
	for _, was := range w.standing {
		is, err := inspect(ctx, was.h, was.name)
		if err != nil {
			w.t.Error(err)
			continue
		}
		if is.pid != was.pid {
			w.t.Errorf("%s of %s was started again", was.name, was.h.Name)
		}
		for network, a := range was.on {
			if is.on[network] != a {
				w.t.Errorf("%s of %s has %+v on %s, and had %+v", was.name, was.h.Name, is.on[network], network, a)
			}
			for _, addr := range []string{a.IPAddress, a.GlobalIPv6Address} {
				if owners := claims.of(addr); network == own && addr != "" && (len(owners) != 1 || owners[0] != was.h.Name) {
					w.t.Errorf("%s of %s has %s, which is claimed by %q", was.name, was.h.Name, addr, owners)
				}
			}
		}
	}
}
