package addresses

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/docker/go-plugins-helpers/ipam"

	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/ipamdriver"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
	"github.com/socketplane/socketplane/store/consul"
)

// hostEnv holds the hostConfig of a process that is to be a host instead of a test.
const hostEnv = "SOCKETPLANE_ADDRESSES_HOST"

// hostConfig is what a host is told at its start.
type hostConfig struct {
	ID, Consul, Dir string
	Rest            time.Duration
	// Containers are what the host's endpoints have, for a host that has lost its journal.
	Containers []ipamdriver.Held
}

// call is one request to a host, and answer its answer; both are lines of JSON.
type call struct {
	N              int
	Op             string // pool, request, release, releasepool, list, resting
	Pool, Addr, ID string
}

type answer struct {
	N     int
	Addr  string
	Error string
	// Kind is that of the error, as far as a test minds.
	Kind string
	// Journal is the answer to list.
	Journal map[string]string
	// Pending is part of it.
	Pending bool
	// Resting is the answer to resting.
	Resting int
}

// beHost serves calls on stdin until it ends or is killed.
func beHost(text string) error {
	var cfg hostConfig
	if err := json.Unmarshal([]byte(text), &cfg); err != nil {
		return err
	}
	kv, err := consul.Open(consul.Options{Address: cfg.Consul, Timeout: time.Second})
	if err != nil {
		return err
	}
	local, err := bolt.Open(filepath.Join(cfg.Dir, "local.db"), bolt.Options{NoSync: true})
	if err != nil {
		return err
	}
	j, _, err := journal.Open(filepath.Join(cfg.Dir, "journal"), "boot")
	if err != nil {
		return err
	}
	d := ipamdriver.New(store.NewCluster(kv, cfg.ID), local, ipamdriver.Options{Journal: j, Rest: cfg.Rest})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if err := d.Restore(ctx, cfg.Containers); err != nil {
		return err
	}
	go func() { _ = d.Run(ctx) }()
	go syncLoop(ctx, d)
	return serve(ctx, d, j, os.Stdin, os.Stdout)
}

// syncLoop is the agent's, but quicker.
func syncLoop(ctx context.Context, d *ipamdriver.Driver) {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for last := (time.Time{}); ; {
		if pending, err := d.Pending(ctx); pending || err != nil || time.Since(last) > 3*time.Second {
			pass, cancel := context.WithTimeout(ctx, 20*time.Second)
			if d.Sync(pass) == nil {
				last = time.Now()
			}
			cancel()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func serve(ctx context.Context, d *ipamdriver.Driver, j *journal.Journal, in io.Reader, out io.Writer) error {
	var mu sync.Mutex
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var c call
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return err
		}
		go func() {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			a := do(ctx, d, j, c)
			a.N = c.N
			text, _ := json.Marshal(a) // plain values
			mu.Lock()
			defer mu.Unlock()
			_, _ = out.Write(append(text, '\n'))
		}()
	}
	return lines.Err()
}

// states tells what a journal says of each address: a record of its own, or else spare in that of its block.
func states(ctx context.Context, j *journal.Journal) (map[string]string, error) {
	all := map[string]string{}
	blocks, err := j.List(ctx, store.LocalBlocks)
	if err != nil {
		return nil, err
	}
	for _, e := range blocks {
		var r struct {
			Block netip.Prefix
			Addrs string
		}
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return nil, err
		}
		set, err := strconv.ParseUint(r.Addrs, 16, 64)
		if err != nil {
			return nil, err
		}
		for a := r.Block.Addr(); r.Block.Contains(a); a, set = a.Next(), set>>1 {
			if set&1 != 0 {
				all[a.String()] = "spare"
			}
		}
	}
	entries, err := j.List(ctx, store.LocalAddresses)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		var r struct{ State string }
		if err := json.Unmarshal(e.Value, &r); err != nil {
			return nil, err
		}
		all[store.Last(e.Key)] = r.State
	}
	return all, nil
}

func do(ctx context.Context, d *ipamdriver.Driver, j *journal.Journal, c call) (a answer) {
	var err error
	switch c.Op {
	case "pool":
		_, err = d.RequestPool(ctx, &ipam.RequestPoolRequest{Pool: c.Pool, V6: netip.MustParsePrefix(c.Pool).Addr().Is6()})
	case "releasepool":
		err = d.ReleasePool(ctx, &ipam.ReleasePoolRequest{PoolID: c.Pool})
	case "request":
		var r *ipam.RequestAddressResponse
		r, err = d.RequestAddress(ctx, &ipam.RequestAddressRequest{
			PoolID: c.Pool, Address: c.Addr, Options: map[string]string{"com.docker.network.endpoint.macaddress": c.ID}})
		if err == nil {
			a.Addr = netip.MustParsePrefix(r.Address).Addr().String()
		}
	case "release":
		err = d.ReleaseAddress(ctx, &ipam.ReleaseAddressRequest{PoolID: c.Pool, Address: c.Addr})
	case "list":
		if a.Journal, err = states(ctx, j); err == nil {
			a.Pending, err = d.Pending(ctx)
		}
	case "resting":
		var use []ipamdriver.Use
		if use, err = d.Use(ctx, netip.MustParsePrefix(c.Pool), nil); err == nil && len(use) > 0 {
			a.Resting = use[0].Resting // there is one host
		}
	default:
		err = fmt.Errorf("unknown operation %q", c.Op)
	}
	if err != nil {
		a.Error, a.Kind = err.Error(), kind(err)
	}
	return a
}
