package membership

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/internal/config"
	"github.com/socketplane/socketplane/store"
)

// TokenFile is the file with the token by which hosts join a locked cluster, if the settings name one.
type TokenFile struct {
	Config config.Config
	Logger *slog.Logger
}

// Token is the token that this host was given; nil if it was given none, or its file is not there yet.
func (f TokenFile) Token() (*trust.Token, error) {
	secret, err := f.Config.ReadToken(os.ReadFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !secret.IsSet():
		return nil, nil
	}
	t, err := trust.ParseToken(secret.Reveal())
	return &t, err
}

// Founded writes a token for the other hosts of a locked cluster to the file that was named, unless there is one.
func (f TokenFile) Founded(ctx context.Context, st *store.Cluster, keys store.Keys) error {
	if !keys.Locked || f.Config.JoinTokenFile == "" {
		return nil
	}
	if _, err := os.Stat(f.Config.JoinTokenFile); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	t, record, err := trust.NewToken(keys, time.Time{}, 0)
	if err != nil {
		return err
	}
	if err := f.write(t, func() error { return st.CreateToken(ctx, record) }); err != nil {
		return fmt.Errorf("the cluster's token for %s: %w: see that its directory is there and can be written, or give another --join-token-file", f.Config.JoinTokenFile, err)
	}
	f.Logger.Info("the cluster is locked: other hosts join with the token in the file", "file", f.Config.JoinTokenFile)
	return nil
}

// write writes a token to the file that was named, which only root can read. It is recorded when it is on the disk and before the file has its name:
// a file that can't be written is tried again, and must not leave a token each time.
func (f TokenFile) write(t trust.Token, record func() error) (err error) {
	path := f.Config.JoinTokenFile
	file, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // with mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.WriteString(t.Text() + "\n")
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err = record(); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}
