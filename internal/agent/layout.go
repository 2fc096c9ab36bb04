package agent

import (
	"cmp"
	"context"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/operator"
	"github.com/socketplane/socketplane/store"
)

var _ adminapi.LayoutOperator = (*agent)(nil)

// Layout tells how the cluster's records are laid out.
func (a *agent) Layout(ctx context.Context) (adminapi.LayoutStatus, error) {
	state, err := a.cluster.LayoutState(ctx)
	if err != nil {
		return adminapi.LayoutStatus{}, err
	}
	s := adminapi.LayoutStatus{Layout: state.Layout.Layout, Newest: store.NewestLayout, Pinned: state.Pinned}
	for _, h := range state.Older {
		s.Older = append(s.Older, cmp.Or(h.Name, h.ID))
	}
	if !state.Since.IsZero() && len(s.Older) == 0 {
		due := state.Since.Add(store.LayoutSoak)
		s.Due = &due
	}
	if s.Layout == store.FirstLayout {
		s.Unsettled, err = a.cluster.WithParts(ctx)
	}
	return s, err
}

// SetLayout changes the layout of the cluster's records.
func (a *agent) SetLayout(ctx context.Context, layout int) error {
	if err := a.cluster.SetLayout(ctx, layout); err != nil {
		return operator.Spoken(err)
	}
	a.log.Info("the layout of the cluster's records was set", "layout", layout)
	return nil
}
