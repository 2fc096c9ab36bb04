package doctor

import (
	"context"
	"fmt"
)

// Copy is another machine that has asked for this host's id of late.
type Copy struct {
	Name, Addr string
	// Cure is what to do on it.
	Cure string
}

// Identity looks whether another machine has this host's id. copied is nil if none has asked for it. Machines ask through the cluster's
// store: answers is the error of reading that. none says why machines do not ask; "" where they do.
func Identity(id, none string, copied func() *Copy, answers func(context.Context) error) Check {
	return Check{Name: nameIdentity, Looks: "whether another machine has asked for this host's id of late, in the cluster's store", Look: func(ctx context.Context) Finding {
		if none != "" {
			return NotApplicable("%s", none)
		}
		if c := copied(); c != nil {
			return Warning(fmt.Sprintf("the machine %s at %s has this host's id, %s: it is a copy of this one, perhaps", c.Name, c.Addr, id),
				"its agent is refused, and no network works there; this host is not affected", c.Cure)
		}
		if err := answers(ctx); err != nil {
			return Unknown("machines ask for an id in the cluster's store, which does not answer: "+err.Error(), "see the store")
		}
		return OK("no other machine has asked for the id %s", id)
	}}
}
