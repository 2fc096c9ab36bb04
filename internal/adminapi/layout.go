package adminapi

import (
	"context"
	"net/http"
	"time"
)

// LayoutOperator is what an Agent implements whose cluster's records have layouts. Methods are called concurrently.
type LayoutOperator interface {
	// Layout tells how the cluster's records are laid out.
	Layout(ctx context.Context) (LayoutStatus, error)
	// SetLayout changes it at once; ErrConflict if hosts have agents that do not know the layout, ErrInvalid if there is no such layout.
	SetLayout(ctx context.Context, layout int) error
}

// LayoutStatus tells how the cluster's records are laid out.
type LayoutStatus struct {
	// Layout is the one that is written, Newest the highest that this agent knows.
	Layout int `json:"layout"`
	Newest int `json:"newest"`
	// Pinned says that an operator chose an older layout, which stays.
	Pinned bool `json:"pinned"`
	// Due is when the newest layout comes into use by itself; absent if it is in use, pinned, or not known to all hosts.
	Due *time.Time `json:"due,omitempty"`
	// Older are the names of the hosts whose agents do not know the newest layout, sorted.
	Older []string `json:"older"`
	// Unsettled are the ids of hosts whose endpoints have another form than the layout's: agents of the former release do not see them.
	Unsettled []string `json:"unsettled,omitempty"`
}

type (
	layoutAnswer struct {
		Schema int `json:"schema"`
		LayoutStatus
	}
	layoutRequest struct {
		Layout int `json:"layout"`
	}
)

const pathLayout = pathCluster + "/layout"

// operateLayout adds what a LayoutOperator answers.
func operateLayout(mux *http.ServeMux, o LayoutOperator) {
	mux.HandleFunc("GET "+pathLayout, func(w http.ResponseWriter, r *http.Request) {
		s, err := o.Layout(r.Context())
		s.Older = orEmpty(s.Older)
		finish(w, err, layoutAnswer{Schema, s})
	})
	mux.HandleFunc("POST "+pathLayout, taking(func(ctx context.Context, r layoutRequest) error { return o.SetLayout(ctx, r.Layout) }))
}

// Layout asks how the cluster's records are laid out.
func (c *Client) Layout(ctx context.Context) (LayoutStatus, error) {
	var s layoutAnswer
	err := c.get(ctx, pathLayout, &s)
	return s.LayoutStatus, err
}

// SetLayout asks for another layout.
func (c *Client) SetLayout(ctx context.Context, layout int) error {
	return c.ask(ctx, http.MethodPost, pathLayout, layoutRequest{layout}, &status{})
}
