package cluster_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/socketplane/socketplane/internal/cluster"
)

// errNotNow is the answer of a host whose cluster can't at the moment: asking again helps.
var errNotNow = errors.New("not now")

// ask asks the host; out may be nil.
func (h *host) ask(path string, out any) error {
	resp, err := h.client.Get("http://host" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusServiceUnavailable:
		return fmt.Errorf("%w: %s: %s", errNotNow, path, bytes.TrimSpace(body))
	default:
		return fmt.Errorf("%s: %s", path, bytes.TrimSpace(body))
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// insist asks again while the answer is that it can't be now, as a user would; any other answer is the answer.
func (h *host) insist(path string, out any) (err error) {
	h.s.t.Helper()
	h.s.await(h.cfg.Name+" answers "+path, patience, func() bool {
		now := h.ask(path, out)
		if errors.Is(now, errNotNow) && (err == nil || err.Error() != now.Error()) {
			h.s.t.Log(now)
		}
		err = now
		return !errors.Is(err, errNotNow)
	})
	return err
}

// must is insist for what has to succeed.
func (h *host) must(path string) {
	h.s.t.Helper()
	if err := h.insist(path, nil); err != nil {
		h.s.t.Fatal(err)
	}
}

// reads is what a host reads, once it can: a host that has just got another role or cluster answers in a moment, and never wrongly.
func (h *host) reads(path, want string) {
	h.s.t.Helper()
	var got string
	if err := h.insist(path, &got); err != nil || got != want {
		h.s.t.Errorf("%s: %s is %q, %v, want %q", h.cfg.Name, path, got, err, want)
	}
}

func (h *host) status() cluster.Status {
	var st cluster.Status
	if err := h.ask("/status", &st); err != nil {
		st.Trouble = err.Error()
	}
	return st
}
