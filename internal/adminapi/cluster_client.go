package adminapi

import (
	"context"
	"net/http"
)

// Cluster asks what this host is in which cluster.
func (c *Client) Cluster(ctx context.Context) (ClusterStatus, error) {
	var s clusterAnswer
	err := c.get(ctx, pathCluster, &s)
	return s.ClusterStatus, err
}

// InitCluster asks for a new cluster on this host.
func (c *Client) InitCluster(ctx context.Context, r InitRequest) error {
	return c.ask(ctx, http.MethodPost, pathCluster+"/init", r, &status{})
}

// JoinCluster asks that this host join a cluster.
func (c *Client) JoinCluster(ctx context.Context, r JoinRequest) error {
	return c.ask(ctx, http.MethodPost, pathCluster+"/join", r, &status{})
}

// LeaveCluster asks that this host leave its cluster.
func (c *Client) LeaveCluster(ctx context.Context, force bool) error {
	return c.ask(ctx, http.MethodPost, pathCluster+"/leave", leaveRequest{force}, &status{})
}

// SetLocked asks that the cluster be closed or opened.
func (c *Client) SetLocked(ctx context.Context, locked bool) error {
	path := pathCluster + "/unlock"
	if locked {
		path = pathCluster + "/lock"
	}
	return c.ask(ctx, http.MethodPost, path, nil, &status{})
}

// CreateToken asks for a token.
func (c *Client) CreateToken(ctx context.Context, r TokenRequest) (Token, error) {
	var made tokenAnswer
	err := c.ask(ctx, http.MethodPost, pathTokens, r, &made)
	return made.Token, err
}

// Tokens asks for all tokens.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	var list tokenList
	err := c.get(ctx, pathTokens, &list)
	return list.Tokens, err
}

// RemoveToken asks that a token become useless.
func (c *Client) RemoveToken(ctx context.Context, id string) error {
	return c.ask(ctx, http.MethodDelete, pathTokens+"/"+segment(id), nil, &status{})
}
