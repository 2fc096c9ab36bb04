package membership_test

import (
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/internal/membership"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// TestFoundedWritesOneToken: a token file that can't be written, which is tried again and again, leaves no tokens in the cluster; nobody else can read the
// file, or let it be written elsewhere.
func TestFoundedWritesOneToken(t *testing.T) {
	kv, err := bolt.Open(filepath.Join(t.TempDir(), "cluster.db"), bolt.Options{NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer kv.Close()
	keeper, err := trust.Open(t.TempDir(), trust.Lifetimes{})
	if err != nil {
		t.Fatal(err)
	}
	creds, err := trust.Found(keeper.Identity(), trust.Subject{ID: "h1", Addr: netip.MustParseAddr("192.0.2.1")}, true, trust.Lifetimes{}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "missing")
	a := membership.TokenFile{Logger: slog.New(slog.DiscardHandler), Config: config.Config{JoinTokenFile: filepath.Join(dir, "token")}}
	st := store.NewCluster(kv, "h1")
	tokens := func() int {
		all, err := st.Tokens(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	for range 3 {
		if err := a.Founded(t.Context(), st, creds.Keys); err == nil || !strings.Contains(err.Error(), dir) {
			t.Errorf("without the directory: %v", err)
		}
	}
	if n := tokens(); n > 0 {
		t.Errorf("%d tokens are left", n)
	}

	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(victim, a.Config.JoinTokenFile+".new"); err != nil {
		t.Fatal(err)
	}
	if err := a.Founded(t.Context(), st, creds.Keys); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(a.Config.JoinTokenFile)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v", info, err)
	}
	if _, err := os.Lstat(victim); err == nil {
		t.Error("a link that somebody left was followed")
	}
	secret, err := os.ReadFile(a.Config.JoinTokenFile)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trust.ParseToken(strings.TrimSpace(string(secret))); err != nil || tokens() != 1 {
		t.Errorf("%d tokens; the file's: %v", tokens(), err)
	}
	if err := a.Founded(t.Context(), st, creds.Keys); err != nil || tokens() != 1 {
		t.Errorf("once more: %v, %d tokens", err, tokens())
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 2 {
		t.Errorf("the directory has %v, %v", left, err)
	}
}
