package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/hashicorp/consul/api"

	"github.com/socketplane/socketplane/internal/crashpoint"
	"github.com/socketplane/socketplane/store"
)

// Apply implements store.KV with one transaction of Consul's.
func (s *Store) Apply(ctx context.Context, ops ...store.Op) error {
	if err := store.ValidOps(ops); err != nil {
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	req, cancel := s.call(ctx, s.timeout)
	defer cancel()
	txn, origin := translate(ops)
	// Not Txn.Txn: that hides the HTTP status of a refusal. Raw gives the
	// body of a 409 in its error.
	err := writeAgain(req, func() error {
		crashpoint.Hit("consul: write")
		_, err := s.client.Raw().Write("/v1/txn", txn, nil, (&api.WriteOptions{}).WithContext(req))
		crashpoint.Hit("consul: written")
		return err
	})
	var status api.StatusError
	if errors.As(err, &status) && status.Code == http.StatusConflict {
		return s.rolledBack(ops, origin, status)
	}
	if err != nil {
		return s.failure(ctx, "write "+ops[0].Key, err)
	}
	return nil
}

// translate returns Consul's operations, and for each the index of the one of
// ours that it comes from.
func translate(ops []store.Op) (txn api.TxnOps, origin []int) {
	add := func(from int, verb api.KVOp) {
		op := ops[from]
		kv := &api.KVTxnOp{Verb: verb, Key: op.Key}
		switch verb {
		case api.KVSet:
			kv.Value = op.Value
		case api.KVCAS: // index 0: only if the key is absent
			kv.Value, kv.Index = op.Value, op.Version
		case api.KVCheckIndex, api.KVDeleteCAS:
			kv.Index = op.Version
		}
		txn = append(txn, &api.TxnOp{KV: kv})
		origin = append(origin, from)
	}
	for i, op := range ops {
		switch op.Kind {
		case store.OpSet:
			add(i, api.KVCAS)
		case store.OpPut:
			add(i, api.KVSet)
		case store.OpRemove:
			add(i, api.KVDelete)
		case store.OpDelete:
			// delete-cas alone succeeds when the key is gone already.
			add(i, api.KVCheckIndex)
			add(i, api.KVDeleteCAS)
		case store.OpCheck:
			if op.Version == 0 {
				add(i, api.KVCheckNotExists) // check-index knows no index 0
			} else {
				add(i, api.KVCheckIndex)
			}
		}
	}
	return txn, origin
}

// rolledBack says why Consul rolled a transaction back. An operation without a
// precondition can't conflict, and a missing permission is none either.
func (s *Store) rolledBack(ops []store.Op, origin []int, status api.StatusError) error {
	var body struct{ Errors api.TxnErrors }
	if err := json.Unmarshal([]byte(status.Body), &body); err != nil || len(body.Errors) == 0 {
		return s.refusal("write "+ops[0].Key, status)
	}
	first := body.Errors[0]
	if first.OpIndex < 0 || first.OpIndex >= len(origin) {
		return s.refusal("write "+ops[0].Key, status)
	}
	op := ops[origin[first.OpIndex]]
	if denied(first.What) || op.Kind == store.OpPut || op.Kind == store.OpRemove {
		return s.refusal("write "+op.Key, api.StatusError{Code: status.Code, Body: first.What})
	}
	return fmt.Errorf("%s: %w: it does not have version %d (%s)", op.Key, store.ErrConflict, op.Version, first.What)
}
