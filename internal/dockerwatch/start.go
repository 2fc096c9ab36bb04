package dockerwatch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/moby/moby/client"
)

// Refused is a container that Docker was to start by its restart policy, and could not.
type Refused struct{ ID, Name string }

// wireState is what Docker answers for one container.
type wireState struct {
	ID         string `json:"Id"`
	Name       string
	State      struct{ Status, Error string }
	HostConfig struct{ RestartPolicy struct{ Name string } }
}

// Refused gives the containers with a restart policy on networks of our driver whose last start failed with an error that has one of the texts. Docker
// does not try again, neither at its boot nor when a container ends. Those that never ran are left out: a user was told of the error.
func (w *Watcher) Refused(ctx context.Context, texts ...string) ([]Refused, error) {
	networks, err := w.Networks(ctx)
	if err != nil {
		return nil, err
	}
	filters, err := json.Marshal(map[string][]string{"status": {"exited"}})
	if err != nil {
		return nil, err
	}
	var list []wireContainer
	if err := w.get(ctx, "/containers/json", url.Values{"all": {"1"}, "filters": {string(filters)}}, &list); err != nil {
		return nil, fmt.Errorf("docker's containers: %w", err)
	}
	var out []Refused
	for _, c := range list {
		ours := slices.ContainsFunc(networks, func(n Network) bool { _, on := c.NetworkSettings.Networks[n.Name]; return on })
		if !ours {
			continue
		}
		var full wireState
		if err := w.get(ctx, "/containers/"+c.ID+"/json", nil, &full); err != nil {
			continue // it was removed meanwhile
		}
		policy := full.HostConfig.RestartPolicy.Name
		said := slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(full.State.Error, text) })
		if said && full.State.Status == "exited" && policy != "" && policy != "no" {
			out = append(out, Refused{full.ID, strings.TrimPrefix(full.Name, "/")})
		}
	}
	return out, nil
}

// Start starts a container. It is no error that it runs.
func (w *Watcher) Start(ctx context.Context, id string) error {
	api, err := w.connected()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, changeTimeout)
	defer cancel()
	_, err = api.ContainerStart(ctx, id, client.ContainerStartOptions{})
	return failed(fmt.Sprintf("start container %.12s", id), err)
}
