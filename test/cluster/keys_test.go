package cluster

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/socketplane/socketplane/test/lab"
)

// keysOfServers: of four hosts, the one whose Consul is no server has neither the authority's key nor the management token in any file of its
// state directory, and its agent still does what users want of a member.
func keysOfServers(w *world) {
	inside := w.Hosts[:4]
	s, err := statusOf(w.ctx, inside[0])
	w.must(err)
	roles := map[string]string{}
	for _, m := range s.Members {
		roles[m.Name] = m.Role
	}
	var client, server *lab.Host
	for _, h := range inside {
		if roles[h.Name] == "server" {
			server = h
		} else {
			client = h
		}
	}
	if client == nil || server == nil {
		w.t.Fatalf("of four hosts three are to be servers: %v", roles)
	}
	secrets := w.secrets(server)
	if found := w.holding(server, secrets); len(found) < len(secrets) {
		w.t.Fatalf("a server's files have only %v: the search misses something", found)
	}
	if found := w.holding(client, secrets); len(found) > 0 {
		w.t.Errorf("a client's files have %v", found)
	}
	_, id := w.newTokenOn(client)
	_, _, err = w.insist(client, "no token", "cluster", "token", "rm", id)
	w.must(err)
	for _, layout := range []string{"1", "2"} { // back, and up again
		if out, err := client.SocketPlane(w.ctx, "cluster", "layout", layout); err != nil {
			w.t.Errorf("a client sets layout %s: %s%v", layout, out, err)
		}
	}
	if _, err := client.SocketPlane(w.ctx, "host", "rm", server.Name); err == nil || !strings.Contains(err.Error(), "is up") {
		w.t.Errorf("a client removes a host that is up: %v", err)
	}
}

// secrets are what only servers may hold, as a server has them on its disk.
func (w *world) secrets(server *lab.Host) map[string]string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(state(server), "cluster", "credentials.json"))
	w.must(err)
	var c struct {
		Keys struct {
			CAs        []struct{ Key string } `json:"cas"`
			Management string                 `json:"management_token"`
		} `json:"keys"`
	}
	w.must(json.Unmarshal(text, &c))
	if len(c.Keys.CAs) == 0 || c.Keys.Management == "" || strings.Count(c.Keys.CAs[0].Key, "\n") < 2 {
		w.t.Fatal("a server has not all keys")
	}
	return map[string]string{"management token": c.Keys.Management, "authority's key": strings.Split(c.Keys.CAs[0].Key, "\n")[1]}
}

// holding are the secrets that are in files below the host's state directory.
func (w *world) holding(h *lab.Host, secrets map[string]string) map[string]string {
	w.t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(state(h), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // files come and go
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for name, secret := range secrets {
			if bytes.Contains(text, []byte(secret)) {
				found[name] = filepath.Base(path)
			}
		}
		return nil
	})
	w.must(err)
	return found
}

func state(h *lab.Host) string { return filepath.Join(h.Dir, "var/lib/socketplane") }
