package mirror

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/dockerwatch"
	"github.com/socketplane/socketplane/store"
)

// maxLabels bounds the labels that are told to other hosts, in bytes of keys and values: names matter there, not
// the documents that some tools keep in labels.
const maxLabels = 4096

// Docker tells of `docker network connect` before it has noted the endpoint with the container: who has a new endpoint is asked
// again after newcomerFirst, then after twice as long each time, until it has been unknown for newcomerLast. Later, passes ask.
const (
	newcomerFirst = 25 * time.Millisecond
	newcomerLast  = 5 * time.Second
)

// newcomers says whether an endpoint that has joined lately is without a container.
func (m *Mirror) newcomers(now time.Time) bool {
	unknown, lately := map[string]time.Time{}, false
	for id, c := range m.driver.Described() {
		if c != nil {
			continue
		}
		since, seen := m.unknown[id]
		if !seen {
			since = now
		}
		unknown[id] = since
		lately = lately || now.Sub(since) < newcomerLast
	}
	m.unknown = unknown
	return lately
}

// rest waits until there is something for a pass to do, at most so long, and asks meanwhile who new endpoints are.
func (m *Mirror) rest(ctx context.Context, wait time.Duration) {
	end := time.Now().Add(wait)
	for pause := newcomerFirst; ; pause *= 2 {
		left := time.Until(end)
		if !m.newcomers(time.Now()) {
			pause = left
		}
		select {
		case <-ctx.Done():
			return
		case <-m.wake:
			return
		case <-time.After(min(pause, left)):
		}
		if pause >= left {
			return
		}
		_ = m.ask(ctx, m.recently(news{})) // the next pass says what is wrong
	}
}

// recently are the containers that events have named lately and that are not described yet, with those that the news name.
func (m *Mirror) recently(n news) []string {
	now := time.Now()
	for id := range n.containers {
		m.recent[id] = now
	}
	maps.DeleteFunc(m.recent, func(_ string, at time.Time) bool { return now.Sub(at) > newcomerLast })
	return slices.Sorted(maps.Keys(m.recent))
}

// describe tells the other hosts which containers have this host's endpoints: of those that the news name, or of all while one has been unknown for so long
// that no event will name it.
func (m *Mirror) describe(ctx context.Context, n news) error {
	of := m.recently(n)
	unknown, unnamed := false, false
	for id, c := range m.driver.Described() {
		if c == nil {
			since, seen := m.unknown[id]
			unknown, unnamed = true, unnamed || seen && time.Since(since) >= newcomerLast
		}
	}
	switch {
	case n.all, unnamed && len(of) == 0:
		return m.attachments(ctx, nil)
	case unknown:
		return m.ask(ctx, of)
	}
	clear(m.recent) // none of them has an endpoint that is unknown: what is left is their names
	return m.ask(ctx, slices.Sorted(maps.Keys(n.containers)))
}

// ask is attachments for containers, of which there may be none.
func (m *Mirror) ask(ctx context.Context, of []string) error {
	if len(of) == 0 {
		return nil
	}
	return m.attachments(ctx, of)
}

// attachments asks Docker which of these containers, all if there are none, have this host's endpoints.
func (m *Mirror) attachments(ctx context.Context, of []string) error {
	known := m.driver.Described()
	if len(known) == 0 {
		return nil
	}
	attached, err := m.docker.Attachments(ctx, of, func(endpoint, name string) bool {
		c, ours := known[endpoint]
		return ours && (c == nil || c.Name != name)
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, a := range attached {
		err := m.driver.Describe(ctx, a.NetworkID, a.EndpointID, container(a))
		if err == nil {
			delete(m.recent, a.ContainerID)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func container(a dockerwatch.Attachment) store.Container {
	c := store.Container{ID: a.ContainerID, Name: a.Name, Aliases: a.Aliases, LinkLocal: a.LinkLocal}
	size := 0
	for k, v := range a.Labels {
		size += len(k) + len(v)
	}
	if size <= maxLabels {
		c.Labels = a.Labels
	}
	return c
}
