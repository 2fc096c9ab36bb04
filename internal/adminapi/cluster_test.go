package adminapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/socketplane/socketplane/internal/adminapi"
)

// joiner is an agent that says what it was asked, or err.
type joiner struct {
	agent
	status adminapi.ClusterStatus
	token  adminapi.Token
	said   string
	err    error
}

func (j *joiner) say(format string, args ...any) error {
	j.said = fmt.Sprintf(format, args...)
	return j.err
}

func (j *joiner) Cluster(context.Context) (adminapi.ClusterStatus, error) { return j.status, j.err }
func (j *joiner) InitCluster(_ context.Context, r adminapi.InitRequest) error {
	return j.say("init %+v", r)
}
func (j *joiner) JoinCluster(_ context.Context, r adminapi.JoinRequest) error {
	return j.say("join %+v", r)
}
func (j *joiner) LeaveCluster(_ context.Context, force bool) error { return j.say("leave %v", force) }
func (j *joiner) SetLocked(_ context.Context, locked bool) error   { return j.say("lock %v", locked) }
func (j *joiner) CreateToken(_ context.Context, r adminapi.TokenRequest) (adminapi.Token, error) {
	return j.token, j.say("token %+v", r)
}
func (j *joiner) Tokens(context.Context) ([]adminapi.Token, error) {
	return []adminapi.Token{j.token}, j.err
}
func (j *joiner) RemoveToken(_ context.Context, id string) error { return j.say("rm %s", id) }

func (j *joiner) Networks(context.Context, func(adminapi.NetworkDetail) error) error { return j.err }
func (j *joiner) Network(context.Context, string) (adminapi.NetworkDetail, error) {
	return adminapi.NetworkDetail{}, j.err
}
func (j *joiner) Inspect(context.Context, string, func(adminapi.Endpoint) error) (adminapi.NetworkDetail, error) {
	return adminapi.NetworkDetail{}, j.err
}
func (j *joiner) Endpoints(context.Context, string, func(adminapi.Endpoint) error) error {
	return j.err
}
func (j *joiner) Doctor(context.Context) ([]adminapi.Check, error) { return nil, j.err }
func (j *joiner) RemoveNetwork(_ context.Context, n string) error  { return j.say("network %s", n) }
func (j *joiner) AttachNetwork(_ context.Context, n string) error  { return j.say("attach %s", n) }
func (j *joiner) RemoveHost(_ context.Context, h string) error     { return j.say("host %s", h) }
func (j *joiner) CreateNetwork(context.Context, adminapi.NetworkRequest) (adminapi.NetworkDetail, error) {
	return adminapi.NetworkDetail{}, j.err
}

// TestNamesCross: whatever a user types as a name arrives as it is.
func TestNamesCross(t *testing.T) {
	j := &joiner{}
	path, _ := serve(t, j)
	c := adminapi.NewClient(path)
	for _, name := range []string{"web", "a//b", "x/../y", "..", ".", "load 100%", "%2e%2e", " a ", "a?b#c", "ü", "a\nb", strings.Repeat("n", 600), "a/attach"} {
		for what, ask := range map[string]func(context.Context, string) error{
			"network": c.RemoveNetwork, "attach": c.AttachNetwork, "host": c.RemoveHost, "rm": c.RemoveToken,
		} {
			j.said = ""
			if err := ask(t.Context(), name); err != nil || j.said != what+" "+name {
				t.Errorf("%.40q arrives as %.60q: %v", name, j.said, err)
			}
		}
	}
}

func TestClusterIsAsked(t *testing.T) {
	j := &joiner{}
	path, _ := serve(t, j)
	c := adminapi.NewClient(path)
	tests := []struct {
		want string
		ask  func(context.Context) error
	}{
		{"init {Locked:true}", func(ctx context.Context) error { return c.InitCluster(ctx, adminapi.InitRequest{Locked: true}) }},
		{"join {Addresses:[a b:1] Token:x}", func(ctx context.Context) error {
			return c.JoinCluster(ctx, adminapi.JoinRequest{Addresses: []string{"a", "b:1"}, Token: "x"})
		}},
		{"leave true", func(ctx context.Context) error { return c.LeaveCluster(ctx, true) }},
		{"leave false", func(ctx context.Context) error { return c.LeaveCluster(ctx, false) }},
		{"lock true", func(ctx context.Context) error { return c.SetLocked(ctx, true) }},
		{"lock false", func(ctx context.Context) error { return c.SetLocked(ctx, false) }},
		{"token {Lifetime:1h0m0s Uses:3}", func(ctx context.Context) error {
			_, err := c.CreateToken(ctx, adminapi.TokenRequest{Lifetime: time.Hour, Uses: 3})
			return err
		}},
		{"rm a/b", func(ctx context.Context) error { return c.RemoveToken(ctx, "a/b") }},
	}
	for _, tt := range tests {
		t.Run(strings.Fields(tt.want)[0], func(t *testing.T) {
			j.err = nil
			if err := tt.ask(t.Context()); err != nil || j.said != tt.want {
				t.Errorf("asked %q, %v, want %q", j.said, err, tt.want)
			}
			j.err = fmt.Errorf("%w: containers use it", adminapi.ErrConflict)
			if err := tt.ask(t.Context()); !errors.Is(err, adminapi.ErrConflict) || err.Error() != "containers use it" {
				t.Errorf("refused with %v", err)
			}
		})
	}
}

func TestClusterArrivesWhole(t *testing.T) {
	j := &joiner{
		status: adminapi.ClusterStatus{
			ClusterSummary: adminapi.ClusterSummary{
				ID: "c", State: adminapi.ClusterMember, Role: adminapi.RoleServer, Locked: true, Epoch: 2, Servers: 3, Trouble: "t",
				Foreign: []adminapi.ForeignCluster{{ID: "d", Hosts: []string{"192.0.2.9:4780"}}},
			},
			Members: []adminapi.ClusterMemberInfo{{
				ID: "h", Name: "alpha", Addr: netip.MustParseAddr("2001:db8::1"), Role: adminapi.RoleServer, State: adminapi.ClusterMember,
				Voter: true, Alive: true, Leader: true, Version: "v1", Joined: time.Unix(1, 0).UTC(),
			}},
		},
		token: adminapi.Token{ID: "i", Created: time.Unix(1, 0).UTC(), Expires: time.Unix(2, 0).UTC(), Uses: 3, Used: 1, Text: "sp1.i"},
	}
	path, _ := serve(t, j)
	c := adminapi.NewClient(path)
	if got, err := c.Cluster(t.Context()); err != nil || !reflect.DeepEqual(got, j.status) {
		t.Errorf("status %+v, %v", got, err)
	}
	if got, err := c.CreateToken(t.Context(), adminapi.TokenRequest{}); err != nil || got != j.token {
		t.Errorf("token %+v, %v", got, err)
	}
	if got, err := c.Tokens(t.Context()); err != nil || !reflect.DeepEqual(got, []adminapi.Token{j.token}) {
		t.Errorf("tokens %+v, %v", got, err)
	}
	j.status.Members = nil
	if got, err := c.Cluster(t.Context()); err != nil || got.Members == nil {
		t.Errorf("no members are %v, %v", got.Members, err)
	}
}
