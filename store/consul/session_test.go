package consul_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/testenv"
	"github.com/socketplane/socketplane/store"
	"github.com/socketplane/socketplane/store/consul"
)

// TestAnnounceSession looks at Announce from Consul's side.
func TestAnnounceSession(t *testing.T) {
	server := testenv.Consul(t)
	config := api.DefaultConfig()
	config.Address = server.Addr
	client, err := api.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(config.HttpClient.CloseIdleConnections)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := open(t, consul.Options{Address: server.Addr})

	// A predecessor that was killed: its session is alive and holds the key.
	former, _, err := client.Session().CreateNoChecks(&api.SessionEntry{TTL: "60s", Behavior: "delete", LockDelay: time.Millisecond}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := client.KV().Acquire(&api.KVPair{Key: "alive", Value: []byte("former"), Session: former}, nil); err != nil || !ok {
		t.Fatal(ok, err)
	}

	ended := make(chan error, 1)
	begin := time.Now()
	go func() { ended <- s.Announce(ctx, "alive", []byte("new"), time.Second) }()
	var session string
	poll(t, "the takeover", func() bool {
		pair, _, err := client.KV().Get("alive", nil)
		if err != nil || pair == nil || string(pair.Value) != "new" {
			return false
		}
		session = pair.Session
		return session != ""
	})
	t.Logf("the key was taken over after %s", time.Since(begin))
	entry, _, err := client.Session().Info(session, nil)
	if err != nil || entry == nil {
		t.Fatal(entry, err)
	}
	if entry.TTL != "10s" || entry.Behavior != "delete" || entry.LockDelay != time.Millisecond {
		t.Errorf("session %+v", entry)
	}
	if old, _, err := client.Session().Info(former, nil); err != nil || old != nil {
		t.Errorf("the former session is still there: %+v, %v", old, err)
	}

	// Consul ends the session: the key goes, and the caller hears of it.
	if _, err := client.Session().Destroy(session, nil); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, store.ErrConflict) {
			t.Errorf("Announce = %v", err)
		}
	case <-time.After(patience):
		t.Fatal("Announce goes on without its session")
	}

	// Its end leaves no session behind.
	go func() { ended <- s.Announce(ctx, "alive", []byte("again"), time.Second) }()
	poll(t, "the second announcement", func() bool { _, err := s.Get(ctx, "alive"); return err == nil })
	cancel()
	<-ended
	poll(t, "the end of its session, which it does not wait for long", func() bool {
		left, _, err := client.Session().List(nil)
		return err == nil && len(left) == 0
	})
}
