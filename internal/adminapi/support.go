package adminapi

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const pathSupport = "/v1/support"

// supportTimeout is longer than answerTimeout: everything is asked, the doctor too.
const supportTimeout = 2 * time.Minute

// Supporter is what an Agent implements to give what a bug report needs.
type Supporter interface {
	// Support writes a tar.gz without secrets.
	Support(ctx context.Context, w io.Writer) error
}

func support(mux *http.ServeMux, s Supporter) {
	mux.HandleFunc("GET "+pathSupport, func(w http.ResponseWriter, r *http.Request) {
		var whole bytes.Buffer
		if err := s.Support(r.Context(), &whole); err != nil {
			reply(w, http.StatusInternalServerError, failure{err.Error()})
			return
		}
		w.Header().Set("Content-Type", "application/gzip")
		_, _ = whole.WriteTo(w) // the client has gone; there is nobody left to tell
	})
}

// Support asks for what a bug report needs, a tar.gz, and writes it to w.
func (c *Client) Support(ctx context.Context, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+pathSupport, nil)
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", pathSupport, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
		if err != nil {
			return c.unreachable(err)
		}
		return answered(resp.StatusCode, body)
	}
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("the bundle is not whole: %w", err)
	}
	return nil
}
