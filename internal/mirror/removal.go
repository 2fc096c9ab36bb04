package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/socketplane/socketplane/driver"
	"github.com/socketplane/socketplane/internal/dockerwatch"
)

// Docker's request to remove a network is the same for `docker network rm` and `docker network prune`. The first means all
// hosts, the second what idles on one. So Docker is asked, at once and outside of the request, whether a prune is
// running, and what it has done since. Where that can't be known any more (Docker or the agent was killed in between),
// the network is kept: to remove it once more is a nuisance, to lose it everywhere is a loss.

// Pauses between two questions about one removal.
const (
	judgeFirst = 20 * time.Millisecond
	judgeLast  = 500 * time.Millisecond
	// judgeBlind is how long the end of a prune is waited for where Docker won't say whether one is running.
	judgeBlind = 2 * time.Second
)

// judge settles removals until ctx ends.
func (m *Mirror) judge(ctx context.Context) {
	suspects := map[string]bool{} // removals during which some prune ran
	for wait := judgeFirst; ctx.Err() == nil; wait = min(2*wait, judgeLast) {
		if m.settle(ctx, suspects) {
			clear(suspects)
			select {
			case <-ctx.Done():
			case <-m.driver.Removed():
			}
			wait = judgeFirst / 2
			continue
		}
		select {
		case <-ctx.Done():
		case <-m.driver.Removed():
			wait = judgeFirst / 2
		case <-time.After(wait):
		}
	}
}

// settle settles what can be settled now; it is true if nothing is left.
func (m *Mirror) settle(ctx context.Context, suspects map[string]bool) bool {
	done := true
	for _, r := range m.driver.Removals() {
		is := r.Verdict
		if is == driver.Undecided {
			var err error
			if is, err = m.verdict(ctx, r, suspects); err != nil && !errors.Is(err, dockerwatch.ErrUnavailable) {
				m.log.Debug("docker does not say why it removed a network", "network", r.Name, "err", err)
			}
			if is == driver.Undecided {
				done = false
				continue
			}
		}
		settled, err := m.driver.SettleRemoval(ctx, r, is)
		if err != nil || !settled {
			done = false // the store is away
			continue
		}
		m.settled(r, is)
	}
	return done
}

// settled tells what a removal meant.
func (m *Mirror) settled(r driver.Removal, is driver.Verdict) {
	back := "it comes back"
	if !m.opts.Follow {
		back = "create it here again with the same --subnet when it is needed"
	}
	switch is {
	case driver.RemovedByUser:
		m.log.Info("network is removed by this host's user", "network", r.Name, "id", r.Network)
		m.note(r.Network, "")
	case driver.PrunedHere:
		m.log.Warn("docker pruned a network on this host; the cluster keeps it, and "+back+": 'docker network rm' or 'socketplane network rm' "+
			"removes it from all hosts", "network", r.Name, "id", r.Network)
		m.note(r.Network, "docker pruned it on this host at "+r.At.Format(time.RFC3339)+"; the cluster keeps what only idles"+stopped(r.Name))
	default:
		m.log.Warn("a network was removed on this host, and docker can't tell any more whether by a user; the cluster keeps it, and "+back+": "+
			"remove it once more if you mean it", "network", r.Name, "id", r.Network)
		m.note(r.Network, "docker removed it on this host at "+r.At.Format(time.RFC3339)+" and could not say why; the cluster keeps it"+stopped(r.Name))
	}
	m.Wake()
}

// verdict asks Docker about one removal.
func (m *Mirror) verdict(ctx context.Context, r driver.Removal, suspects map[string]bool) (driver.Verdict, error) {
	running, err := m.docker.Pruning(ctx)
	switch {
	case errors.Is(err, dockerwatch.ErrUnavailable), err != nil && time.Since(r.At) < judgeBlind:
		return driver.Undecided, err
	case running:
		suspects[r.DockerID] = true
	}
	// Also while a prune runs: that may be the next one of `docker system prune`, with more events than Docker remembers.
	past, err := m.docker.Past(ctx, r.DockerID, r.At)
	if err != nil {
		return driver.Undecided, err
	}
	heard, err := m.docker.Heard()
	if err != nil {
		return driver.Undecided, err
	}
	switch {
	case slices.Contains(past.Pruned, "network"):
		return driver.PrunedHere, nil
	case running:
		return driver.Undecided, nil
	case suspects[r.DockerID] && len(past.Pruned) == 0:
		return driver.PrunedHere, nil // it was broken off: then Docker tells of no end
	case past.Destroyed || heard.Before(r.At) && !r.Doubtful && !suspects[r.DockerID]:
		return driver.RemovedByUser, nil // nothing of it is forgotten: the end of a prune comes after its removals
	case min(time.Since(heard), time.Since(r.At)) < m.opts.Times.Vanished:
		return driver.Undecided, nil // Docker may be repeating its request, and tells of the end only after it
	}
	return driver.RemovedUnknown, nil
}

// stopped is the cure for containers that were stopped while their network was removed: Docker knows the network by its id, and the
// copy that comes back has another one.
func stopped(name string) string {
	return fmt.Sprintf("; if 'docker start' of a container that was stopped then does not find the network: 'docker network disconnect -f %s CONTAINER' and "+
		"'docker network connect %s CONTAINER'", name, name)
}

// note keeps what a user should know of a network; nothing takes the former one back.
func (m *Mirror) note(network, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.notes[network] = text; text == "" {
		delete(m.notes, network)
	}
}

// Note is what happened on this host to a network that a user should know, or nothing.
func (m *Mirror) Note(network string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.notes[network]
}

// beingRemoved are the networks whose removal here is not settled: by the cluster's id, and by name.
func (m *Mirror) beingRemoved() (ids, names map[string]bool) {
	ids, names = map[string]bool{}, map[string]bool{}
	for _, r := range m.driver.Removals() {
		ids[r.Network], names[r.Name] = true, true
	}
	delete(names, "")
	return ids, names
}
