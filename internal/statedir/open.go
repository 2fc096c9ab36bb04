package statedir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/internal/journal"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/bolt"
)

// Files in the state directory.
const (
	LocalFile   = "local.db"
	ClusterFile = "cluster.db"
	JournalFile = "addresses.journal"
	BootFile    = "/proc/sys/kernel/random/boot_id"
)

// OpenLocal opens the host's own store in a state directory, which it makes if it is missing. damage may be nil; it keeps what an earlier attempt found damaged.
func OpenLocal(dir string, damage *bolt.Damage) (store.KV, error) {
	crashpoint.Hit("state: make the directory")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state directory %s can't be made: %w: give another with --state-dir, or run as root", dir, err)
	}
	// Before anything is opened, which may change it.
	if err := journal.Check(filepath.Join(dir, JournalFile)); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, LocalFile)
	kv, err := bolt.Open(path, bolt.Options{Damage: damage})
	if err != nil {
		return nil, fmt.Errorf("state directory %s can't be used: %w", dir, err)
	}
	return store.Guarded(kv, "this host's state in "+path, store.LocalSchemaKey, store.Migrations()), nil
}

// OpenJournal opens the journal of addresses, which belongs to the machine's present life: containers that
// had addresses before are gone, and what was not synced may be damaged. The lock on the host's own store guards it.
func OpenJournal(dir string, log *slog.Logger) (*journal.Journal, error) {
	boot, err := os.ReadFile(BootFile)
	if err != nil {
		return nil, fmt.Errorf("the machine's boot can't be told from earlier ones: %w: mount /proc", err)
	}
	j, lost, err := journal.Open(filepath.Join(dir, JournalFile), strings.TrimSpace(string(boot)))
	if err == nil && j.Damage() > 0 {
		log.Warn("the journal of addresses was damaged: it is taken up to there, and completed with what this host's containers have",
			"file", filepath.Join(dir, JournalFile), "bytes", j.Damage())
	}
	if err == nil && lost {
		log.Info("the journal of addresses is new: addresses without endpoints are given back")
	}
	return j, err
}

// hostRecord is the identity of this host.
type hostRecord struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
}

// HostID reads the host's id, and draws one at the first start.
func HostID(ctx context.Context, local store.KV) (string, error) {
	e, err := local.Get(ctx, store.LocalHostKey)
	if err == nil {
		h, err := store.Decode[hostRecord](e)
		return h.ID, err
	}
	if !errors.Is(err, store.ErrNotFound) {
		return "", err
	}
	h := hostRecord{Schema: store.Schema, ID: store.NewNonce()}
	return h.ID, local.Apply(ctx, store.Op{Kind: store.OpSet, Key: store.LocalHostKey, Value: store.Encode(h)})
}
