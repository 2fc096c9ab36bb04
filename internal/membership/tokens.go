package membership

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// CreateToken makes a token with which hosts join.
func (m *Membership) CreateToken(ctx context.Context, r adminapi.TokenRequest) (adminapi.Token, error) {
	c, err := m.managed()
	if err != nil {
		return adminapi.Token{}, err
	}
	keys, err := m.deps.Cluster.Keys(ctx)
	if err != nil {
		return adminapi.Token{}, spoken(err)
	}
	var expires time.Time
	if r.Lifetime > 0 {
		expires = time.Now().Add(r.Lifetime)
	}
	t, record, err := trust.NewToken(keys, expires, r.Uses)
	if err == nil {
		err = c.CreateToken(ctx, record)
	}
	if err != nil {
		return adminapi.Token{}, spoken(err)
	}
	out := tokenOf(record)
	out.Created, out.Text = time.Now().UTC(), t.Text()
	return out, nil
}

func tokenOf(t store.JoinToken) adminapi.Token {
	return adminapi.Token{ID: t.ID, Created: t.Made, Expires: t.Expires, Uses: t.Uses, Used: t.Used}
}

// Tokens lists the tokens that can still be used.
func (m *Membership) Tokens(ctx context.Context) ([]adminapi.Token, error) {
	if _, err := m.managed(); err != nil {
		return nil, err
	}
	all, err := m.deps.Cluster.Tokens(ctx)
	if err != nil {
		return nil, spoken(err)
	}
	out := []adminapi.Token{}
	for _, t := range all {
		if t.Spent(time.Now()) == nil {
			out = append(out, tokenOf(t))
		}
	}
	slices.SortFunc(out, func(a, b adminapi.Token) int { return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID)) })
	return out, nil
}

// RemoveToken makes a token useless.
func (m *Membership) RemoveToken(ctx context.Context, id string) error {
	c, err := m.managed()
	if err != nil {
		return err
	}
	return spoken(c.RemoveToken(ctx, id))
}
