package store_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/socketplane/socketplane/store"
)

// FuzzRecords holds of every kind of record that whatever lies in Consul is either refused with
// ErrInvalid or written again as something that reads as the same.
func FuzzRecords(f *testing.F) {
	for _, record := range []string{
		`{"schema":1,"id":"n1","name":"web","vni":4096,"pools":["10.1.0.0/24","fd00::/64"],"hosts":{"h1":"d1"},"away":["h2"],"nonce":"00"}`,
		`{"schema":1,"id":"n1","pools":null,"declared":{"subnets":[{"cidr":"10.1.0.0/24","range":"10.1.0.64/26","gateway":"10.1.0.1","aux":{"a":"10.1.0.9"}}]}}`,
		`{"schema":1,"cidr":"10.1.0.0/24","network":"n1","gateway":"","hosts":["h1"],"nonce":"00"}`,
		`{"schema":1,"claims":[{"owner":"h1","nonce":"00","addrs":["10.1.0.2","10.1.0.4-10.1.0.67"]},{"addrs":["fe80::1%eth-0","::-ffff::","10.1.0.9-10.1.0.8"]}]}`,
		`{"schema":1,"id":"h1","name":"one","vtep":"192.0.2.1","subnets":["192.0.2.0/24"],"started":"2026-11-22T20:00:00Z"}`,
		`{"schema":1,"network":"n1","host":"h1","revision":"r","endpoints":[{"id":"e1","mac":"02:00:00:00:00:01","addrs":["10.1.0.2"],"container":{"id":"c"}}]}`,
		`{"schema":1,"id":"h1","name":"one","addr":"192.0.2.1","port":4780,"key":"00","joined":"2026-11-22T20:00:00Z","role":"server","epoch":2,"nonce":"00"}`,
		`{"schema":1,"id":"t1","hash":"00","made":"2026-11-22T20:00:00Z","expires":"2026-11-23T20:00:00+01:00","uses":-1,"nonce":"00"}`,
		`{"schema":1,"cluster":"c1","locked":true,"cas":[{"cert":"c","key":"k"}],"gossip":["g"],"epoch":1,"phase":"use","since":"2026-11-22T20:00:00Z","consul_token":"t","nonce":"00"}`,
		`{"schema":1,"host":"h1","pools":{"10.1.0.0/24":{"static":1,"resting":2},"fd00::/64":{}}}`,
		`{"schema":2,"id":"n1","vni":4096,"pools":["10.1.0.0/24"],"state":"closing","nonce":"00"}`, `{"schema":2,"cidr":"10.1.0.0/24","state":"closing","nonce":"00"}`,
		`{"schema":1,"docker_id":"d1"}`, `{"schema":1,"let_go":4294967295}`, `{"schema":1,"docker_id":"d1","let_go":-1}`, `{"claims":[{"addrs":["0.0.0.0"]}]}`, `{"cidr":"10.1.0.0/24","hosts":[null]}`,
		`{"schema":1,"h":{"h1":"AAAAAAAA","":"x"}}`, `{"schema":1,"h":null}`, `{"schema":1,"host":"h1","nonce":"00"}`,
		`{"schema":2}`, `{"schema":1,"Schema":2}`, `{"schema":-1}`, `{"cidr":"::ffff:10.0.0.0/104"}`, `null`, `[]`, ``,
	} {
		f.Add([]byte(record))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		decodes[store.Network](t, value)
		decodes[store.NetworkRecord](t, value)
		decodes[store.BoundRecord](t, value)
		decodes[store.Pool](t, value)
		decodes[store.PoolRecord](t, value)
		decodes[store.Block](t, value)
		decodes[store.Host](t, value)
		decodes[store.Endpoints](t, value)
		decodes[store.Index](t, value)
		decodes[store.HostUse](t, value)
		decodes[store.HostHeads](t, value)
		decodes[store.JanitorRecord](t, value)
		decodes[store.Member](t, value)
		decodes[store.JoinToken](t, value)
		decodesKeys(t, value)
	})
}

func decodes[T any](t *testing.T, value []byte) {
	t.Helper()
	record, err := store.Decode[T](store.Entry{Key: "k", Value: value})
	if err != nil {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%T from %q: %v, which is not ErrInvalid", record, value, err)
		}
		return
	}
	written := store.Encode(record)
	again, err := store.Decode[T](store.Entry{Key: "k", Value: written})
	if err != nil {
		t.Fatalf("%T from %q: written as %q, it is refused: %v", record, value, written, err)
	}
	if rewritten := store.Encode(again); !bytes.Equal(written, rewritten) {
		t.Errorf("%T from %q: written as %q, then as %q", record, value, written, rewritten)
	}
}

func decodesKeys(t *testing.T, value []byte) {
	t.Helper()
	keys, err := store.DecodeKeys(value)
	if err != nil {
		if !errors.Is(err, store.ErrInvalid) {
			t.Errorf("keys from %q: %v, which is not ErrInvalid", value, err)
		}
		return
	}
	written := store.RevealKeys(keys)
	again, err := store.DecodeKeys(written)
	if err != nil {
		t.Fatalf("keys from %q: written as %q, they are refused: %v", value, written, err)
	}
	if rewritten := store.RevealKeys(again); !bytes.Equal(written, rewritten) {
		t.Errorf("keys from %q: written as %q, then as %q", value, written, rewritten)
	}
}
