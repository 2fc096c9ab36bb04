package dockerwatch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// Pruning says whether some `docker … prune` runs at this moment. Docker lets one run at a time, and refuses another one
// before it looks at what is asked of it (20.10 to 29: NetworkPrune sets pruneRunning before it checks the filters). So this asks
// for a prune with a filter that there is not, which never removes anything: the answer is "conflict" while a prune
// runs, else "no such filter". The label, which no network has, is for a Docker that would ignore the filter.
func (w *Watcher) Pruning(ctx context.Context) (bool, error) {
	filters, err := json.Marshal(map[string]map[string]bool{
		"socketplane.is-a-prune-running": {"yes": true}, "label": {"socketplane.no-network-has-this": true},
	})
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, answer, err := w.request(ctx, http.MethodPost, "/networks/prune", url.Values{"filters": {string(filters)}}, nil)
	switch {
	case err != nil:
		return false, err
	case status == http.StatusConflict:
		return true, nil
	case status == http.StatusBadRequest, status/100 == 2:
		return false, nil
	}
	return false, fmt.Errorf("whether docker prunes: %w: %s", ErrRefused, said(status, answer))
}

// Past is what Docker remembers of a network's removal. It remembers a few hundred events, and none over its restart.
type Past struct {
	// Pruned are the kinds of things (network, image, …) of which a prune has ended, sorted.
	Pruned []string
	// Destroyed says that the network's own removal is among them.
	Destroyed bool
}

// Past tells what has happened since a network was about to be removed.
func (w *Watcher) Past(ctx context.Context, networkID string, since time.Time) (Past, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	filters, err := json.Marshal(map[string]map[string]bool{"event": {"prune": true, "destroy": true}})
	if err != nil {
		return Past{}, err
	}
	until := time.Now() // Docker answers at once if that is over
	if !since.Before(until) {
		since = until
	}
	status, answer, err := w.request(ctx, http.MethodGet, "/events", url.Values{
		"filters": {string(filters)}, "since": {unix(since)}, "until": {unix(until)},
	}, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%w: %s", ErrRefused, said(status, answer))
	}
	if err != nil {
		return Past{}, fmt.Errorf("docker's past events: %w", err)
	}
	return past(answer, networkID)
}

// past reads events, one JSON object after the other.
func past(answer []byte, networkID string) (Past, error) {
	var p Past
	for events := json.NewDecoder(bytes.NewReader(answer)); ; {
		var event struct {
			Type, Action string
			Actor        struct{ ID string }
		}
		if err := events.Decode(&event); errors.Is(err, io.EOF) {
			slices.Sort(p.Pruned)
			return p, nil
		} else if err != nil {
			return p, fmt.Errorf("docker's past events: %w", err)
		}
		switch {
		case event.Action == "prune":
			p.Pruned = append(p.Pruned, event.Type)
		case event.Action == "destroy" && event.Type == "network" && event.Actor.ID == networkID:
			p.Destroyed = true
		}
	}
}

// Heard is since when Docker's events have been heard without a break: it has been the same process for so long.
func (w *Watcher) Heard() (time.Time, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.heard, w.err
}

// unix is a moment as Docker's API takes it.
func unix(at time.Time) string { return fmt.Sprintf("%d.%09d", at.Unix(), at.Nanosecond()) }
