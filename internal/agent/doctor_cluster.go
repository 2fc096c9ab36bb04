package agent

import (
	"context"
	"fmt"
	"strings"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cluster"
	"github.com/socketplane/socketplane/store"
)

// checkCluster looks at the cluster that this agent is part of by itself; the zero Check without one.
func (a *agent) checkCluster(context.Context) adminapi.Check {
	const name = "cluster"
	if a.storage.managed == nil {
		return adminapi.Check{}
	}
	st := a.storage.managed.Status()
	switch {
	case st.State == cluster.Alone:
		return adminapi.Check{Name: name, State: adminapi.CheckWarn, Text: "this host has left its cluster: " + orNothing(st.Trouble),
			Cure: "socketplane cluster join ADDRESS, or socketplane cluster init"}
	case st.State != cluster.Member:
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: fmt.Sprintf("this host is not in one yet (%s): %s", st.State, orNothing(st.Trouble)),
			Cure: "wait a moment; 'socketplane cluster status' tells how far it is"}
	case st.Trouble != "":
		return adminapi.Check{Name: name, State: adminapi.CheckBad, Text: st.Trouble, Cure: "as said; it is tried again by itself"}
	case len(st.Foreign) > 0:
		return adminapi.Check{Name: name, State: adminapi.CheckWarn,
			Text: fmt.Sprintf("%d other clusters are on this segment, at %s", len(st.Foreign), strings.Join(st.Foreign[0].Hosts, ", ")),
			Cure: "to unite two, 'socketplane cluster leave' and 'socketplane cluster join ADDRESS' on the hosts of one"}
	}
	servers := 0
	for _, m := range st.Members {
		if m.Role == store.RoleServer {
			servers++
		}
	}
	access := "open: any host of this segment may join ('socketplane cluster lock' closes it)"
	if st.Locked {
		access = "locked: a host needs a token to join"
	}
	return ok(name, "%d hosts, %d of them servers; %s", len(st.Members), servers, access)
}

func orNothing(text string) string {
	if text == "" {
		return "nothing is known to be in the way"
	}
	return text
}
