package consulproc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/socketplane/socketplane/internal/crashpoint"
)

// configName is the configuration's file name: it carries the hash, so that a process's arguments tell how it runs.
func configName(hash string) string { return "consul-" + hash + ".json" }

const configPattern = "consul-*.json"

// writeFile replaces a file that only root reads, if its content differs; a crash leaves the old or the new one.
func writeFile(path string, content []byte) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	crashpoint.Hit("files of Consul: make their directory")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return false, err
	}
	crashpoint.Hit("files of Consul: make a new one")
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return false, err
	}
	crashpoint.Hit("files of Consul: write a new one")
	_, err = f.Write(content)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		crashpoint.Hit("files of Consul: replace one")
		err = os.Rename(fresh, path)
		crashpoint.Hit("files of Consul: written")
	}
	return err == nil, err
}

// writeKeys writes what a running process rereads, and says whether anything changed.
func (p *Process) writeKeys(s *Spec) (changed bool, err error) {
	// The key before its certificate: a reload in between fails, and the process goes on with what it has.
	for _, f := range []struct {
		name    string
		content []byte
	}{{caFile, s.CA}, {keyFile, s.Key}, {certFile, s.Cert}} {
		wrote, err := writeFile(filepath.Join(p.opts.Dir, f.name), f.content)
		if err != nil {
			return changed, fmt.Errorf("files of Consul: %w", err)
		}
		changed = changed || wrote
	}
	return changed, nil
}

// prepare writes everything that a start needs, while no process runs, and returns the configuration's path.
func (p *Process) prepare(s *Spec) (config string, err error) {
	text, hash, err := s.render(p.opts.Dir)
	if err != nil {
		return "", err
	}
	if _, err := p.writeKeys(s); err != nil {
		return "", err
	}
	data := filepath.Join(p.opts.Dir, dataDir)
	if !s.Server {
		// A server's Raft must not wake up again: the cluster has gone on without it.
		crashpoint.Hit("files of Consul: remove a server's log")
		if err := os.RemoveAll(filepath.Join(data, raftDir)); err != nil {
			return "", fmt.Errorf("data of Consul: %w", err)
		}
	}
	keyring, err := json.Marshal(s.GossipKeys)
	if err != nil {
		return "", fmt.Errorf("keys of Consul: %w", err)
	}
	if _, err := writeFile(filepath.Join(data, keyringFile), keyring); err != nil {
		return "", fmt.Errorf("keys of Consul: %w", err)
	}
	old, err := filepath.Glob(filepath.Join(p.opts.Dir, configPattern))
	if err != nil {
		return "", fmt.Errorf("files of Consul: %w", err)
	}
	for _, path := range old {
		crashpoint.Hit("files of Consul: remove a configuration")
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("files of Consul: %w", err)
		}
	}
	config = filepath.Join(p.opts.Dir, configName(hash))
	if _, err = writeFile(config, text); err != nil {
		return "", fmt.Errorf("files of Consul: %w", err)
	}
	return config, nil
}

// Forget removes all files of the process, which must not run: a host that has left its cluster keeps nothing of it.
func Forget(dir string) error {
	crashpoint.Hit("files of Consul: remove all")
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("data of Consul: %w", err)
	}
	return nil
}
