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

// Identity looks whether another machine has this host's id. copied is nil if none has asked for it.
func Identity(id string, copied func() *Copy) Check {
	return Check{Name: nameIdentity, Looks: "whether another machine has asked for this host's id of late", Look: func(context.Context) Finding {
		if c := copied(); c != nil {
			return Warning(fmt.Sprintf("the machine %s at %s has this host's id, %s: it is a copy of this one, perhaps", c.Name, c.Addr, id),
				"its agent is refused, and no network works there; this host is not affected", c.Cure)
		}
		return OK("no other machine has asked for the id %s", id)
	}}
}
