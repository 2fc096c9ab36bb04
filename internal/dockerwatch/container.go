package dockerwatch

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
)

// Attachment is a running container's place on a network.
type Attachment struct {
	NetworkID, EndpointID string
	ContainerID, Name     string
	// Aliases are the names on the network that a user or Compose gave.
	Aliases []string
	Labels  map[string]string
	// LinkLocal are those of --link-local-ip.
	LinkLocal []netip.Addr
}

// wireContainer is what Docker lists, and what it answers for one container.
type wireContainer struct {
	ID              string   `json:"Id"`
	Name            string   // where one is asked for
	Names           []string // where all are listed
	Config          struct{ Labels map[string]string }
	NetworkSettings struct {
		Networks map[string]wireEndpoint
	}
}

// wireEndpoint is a container's endpoint on a network.
type wireEndpoint struct {
	NetworkID, EndpointID string
	Aliases               []string
	IPAMConfig            struct{ LinkLocalIPs []string }
}

// linkLocal are the addresses of --link-local-ip.
func (e wireEndpoint) linkLocal() []netip.Addr {
	var addrs []netip.Addr
	for _, text := range e.IPAMConfig.LinkLocalIPs {
		if ip := addr(text).Unmap(); ip.IsLinkLocalUnicast() {
			addrs = append(addrs, ip)
		}
	}
	return addrs
}

// Attachments tells who, of the running containers with these ids or of all if there are none, has the endpoints for which want returns true, given also
// the container's name. It asks for such containers only, as asking for one waits for its start; listing one does not.
func (w *Watcher) Attachments(ctx context.Context, of []string, want func(endpoint, name string) bool) ([]Attachment, error) {
	query := url.Values{}
	if len(of) > 0 {
		filters, err := json.Marshal(map[string][]string{"id": of})
		if err != nil {
			return nil, err
		}
		query.Set("filters", string(filters))
	}
	var list []wireContainer
	if err := w.get(ctx, "/containers/json", query, &list); err != nil {
		return nil, fmt.Errorf("docker's containers: %w", err)
	}
	var out []Attachment
	for _, c := range list {
		wanted := false
		for _, n := range c.NetworkSettings.Networks {
			wanted = wanted || want(n.EndpointID, c.name())
		}
		if !wanted {
			continue
		}
		var full wireContainer
		if err := w.get(ctx, "/containers/"+c.ID+"/json", nil, &full); err != nil {
			continue // it ended meanwhile, or is asked for with the next event
		}
		for _, n := range full.NetworkSettings.Networks {
			a := Attachment{
				NetworkID: n.NetworkID, EndpointID: n.EndpointID, ContainerID: full.ID,
				Name: full.name(), Labels: full.Config.Labels, LinkLocal: n.linkLocal(),
			}
			for _, alias := range n.Aliases {
				if alias != full.shortID() && alias != a.Name {
					a.Aliases = append(a.Aliases, alias)
				}
			}
			if want(a.EndpointID, a.Name) {
				out = append(out, a)
			}
		}
	}
	return out, nil
}

// name is the container's own; names by which other containers are linked to it have two slashes.
func (c wireContainer) name() string {
	for _, n := range append(c.Names, c.Name) {
		if own := strings.TrimPrefix(n, "/"); own != "" && !strings.Contains(own, "/") {
			return own
		}
	}
	return ""
}

// shortID is an alias that Docker gives each container on a network: the first twelve characters of its ID
// (TruncateID in the engine's stringid). An alias such as "db" may begin an ID too.
func (c wireContainer) shortID() string { return c.ID[:min(len(c.ID), 12)] }
