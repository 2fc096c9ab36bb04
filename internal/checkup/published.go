package checkup

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/netview"
	"github.com/socketplane/socketplane/internal/retry"
)

// publishPatience is how long a container that has just joined may be missing in the store before the doctor mentions it.
const publishPatience = 2 * time.Second

// unpublished names this host's networks of which the other hosts do not know all containers, a line each. It reads one record of each network that is here.
func (c *Checkup) unpublished(ctx context.Context) ([]string, error) {
	missing, err := c.missing(ctx, c.parts.Networks())
	if err != nil || len(missing) == 0 {
		return nil, err
	}
	retry.Sleep(ctx, publishPatience)
	still, err := c.missing(ctx, slices.DeleteFunc(c.parts.Networks(), func(n netview.Network) bool { return missing[n.ID] == "" }))
	why := map[string]string{}
	for _, u := range c.parts.View.Unpublished() {
		why[u.Network] = fmt.Sprintf(", since %s: %s", u.Since.Format(time.RFC3339), u.Err)
	}
	var found []string
	for id, line := range still {
		found = append(found, line+why[id])
	}
	slices.Sort(found)
	return found, err
}

// missing tells, by network, how many of its containers here the store does not have.
func (c *Checkup) missing(ctx context.Context, networks []netview.Network) (map[string]string, error) {
	missing := map[string]string{}
	for _, n := range networks {
		if n.Endpoints == 0 || n.Cut != "" || n.Removing {
			continue
		}
		e, err := c.parts.Cluster.Endpoints(ctx, n.ID, c.parts.Cluster.Host())
		if err != nil {
			return nil, err
		}
		if known := len(e.Endpoints); known < n.Endpoints {
			missing[n.ID] = fmt.Sprintf("network %s: the other hosts know %d of its %d containers here", n.Name, known, n.Endpoints)
		}
	}
	return missing, nil
}
