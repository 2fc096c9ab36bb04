package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"sync"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/store"
)

const recordFile = "state.json"

// record is what a host must remember of its place in the cluster, beside its credentials.
type record struct {
	Schema int `json:"schema"`
	// Founder says that the cluster of the credentials is not complete yet. Nobody else is in it.
	Founder bool `json:"founder,omitempty"`
	// Addr is where this host took part last.
	Addr netip.Addr `json:"addr,omitzero"`
	// Refused is the last refusal of a Claim, until one succeeds.
	Refused refusal `json:"refused,omitzero"`
	// Role is what this host's Consul is.
	Role string `json:"role,omitempty"`
	// Alone says that the host has left a cluster, and joins or founds one only if it is told to.
	Alone bool `json:"alone,omitempty"`
	// Leaving says that the host is about to leave, Forced that it leaves whatever the others do.
	Leaving bool `json:"leaving,omitempty"`
	Forced  bool `json:"forced,omitempty"`
	// Ending says that the host is in no cluster any more, and what it has of the last one is to be removed.
	Ending bool `json:"ending,omitempty"`
}

// refusal says that this host may not take part in its cluster.
type refusal struct {
	// At is when it was last said, in seconds since 1970, of this host at Addr.
	At   int64      `json:"at"`
	Addr netip.Addr `json:"addr"`
	// Copy says that this machine is a copy of another that is up; else another host has its address.
	Copy bool   `json:"copy"`
	Why  string `json:"why"`
}

// records keeps the record in memory and in a file.
type records struct {
	path string
	mu   sync.Mutex
	now  record
}

func openRecords(dir string) (*records, error) {
	r := &records{path: filepath.Join(dir, recordFile)}
	crashpoint.Hit("place in the cluster: make its directory")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("the cluster's directory: %w", err)
	}
	text, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r.now)
	}
	if err == nil && r.now.Schema > store.Schema {
		err = fmt.Errorf("it has schema %d, this agent knows %d: upgrade socketplane", r.now.Schema, store.Schema)
	}
	if err != nil {
		return nil, fmt.Errorf("%s can't be read: %w", r.path, err)
	}
	return r, nil
}

func (r *records) get() record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// change writes the record before it counts. A crash leaves the old or the new one.
func (r *records) change(f func(*record)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := r.now
	f(&next)
	next.Schema = store.Schema
	if next == r.now {
		return nil
	}
	if err := replace(r.path, store.Encode(next)); err != nil {
		return fmt.Errorf("the cluster's state on this host: %w", err)
	}
	r.now = next
	return nil
}

// replace writes a file anew, for root only.
func replace(path string, content []byte) error {
	fresh := path + ".new"
	crashpoint.Hit("place in the cluster: make a new file")
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	crashpoint.Hit("place in the cluster: write a new file")
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	crashpoint.Hit("place in the cluster: replace the file")
	err = os.Rename(fresh, path)
	crashpoint.Hit("place in the cluster: written")
	return err
}
