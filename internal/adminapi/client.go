package adminapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// ErrUnreachable is what the client's errors wrap when no agent answered.
var ErrUnreachable = errors.New("agent not reachable")

// maxAnswer is the largest answer that the client reads as a whole, in bytes; what grows with the cluster is a list, which is read as it comes.
const maxAnswer = 16 << 20

// Client asks the agent of this host. It is safe for concurrent use and needs no closing.
type Client struct {
	path string
	http *http.Client
}

// NewClient returns a client of the agent that serves the unix socket at path. Nothing is dialled yet.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{path: path, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true, // one question per command
	}}}
}

// Info asks how the agent does.
func (c *Client) Info(ctx context.Context) (Info, error) {
	var info Info
	if err := c.get(ctx, pathInfo, &info); err != nil {
		return Info{}, err
	}
	return info, nil
}

// Ready returns nil if the agent says that networks work on its host, else what it says.
func (c *Client) Ready(ctx context.Context) error {
	return c.get(ctx, pathReady, &status{})
}

func (c *Client) get(ctx context.Context, path string, into any) error {
	// The host is never resolved: the dialer knows the socket.
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", path, err)
	}
	return c.do(req, into)
}

// getList asks for a list that is read as it comes, with fields beside it that more has a place for.
func getList[T any](ctx context.Context, c *Client, path, name string, each func(T) error, more map[string]any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return fmt.Errorf("ask the agent for %s: %w", path, err)
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
	body := &limited{Reader: io.LimitReader(resp.Body, maxList)}
	err = readList(body, name, each, more)
	var broken *brokenList
	switch {
	case err == nil, errors.As(err, &broken):
		return err
	case body.err != nil:
		return c.unreachable(body.err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return c.unreachable(err)
	}
	return fmt.Errorf("what serves %s does not answer like an agent: check --admin-socket: %w", c.path, err)
}

// limited keeps the error of a reader, which a decoder mixes with its own.
type limited struct {
	io.Reader
	err error // other than the end
}

func (l *limited) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		l.err = err
	}
	return n, err
}

func (c *Client) do(req *http.Request, into any) error {
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return c.unreachable(err)
	}
	if resp.StatusCode != http.StatusOK {
		return answered(resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("what serves %s does not answer like an agent: check --admin-socket: %w", c.path, err)
	}
	return nil
}

// answered turns an answer other than 200 into an error with the agent's own words.
func answered(code int, body []byte) error {
	var f failure
	if json.Unmarshal(body, &f) != nil || f.Error == "" {
		return fmt.Errorf("the agent answered %d %s", code, http.StatusText(code))
	}
	for status, kind := range map[int]error{
		http.StatusNotFound: ErrNotFound, http.StatusConflict: ErrConflict, http.StatusBadRequest: ErrInvalid,
	} {
		if code == status {
			return &answerError{text: f.Error, kind: kind}
		}
	}
	return fmt.Errorf("the agent answered: %s", f.Error)
}

// answerError is an agent's refusal in its own words.
type answerError struct {
	text string
	kind error
}

func (e *answerError) Error() string { return e.text }
func (e *answerError) Unwrap() error { return e.kind }

// unreachable says what a failed dial or a broken answer means, and the cure.
func (c *Client) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &unreachableError{cause: err, text: fmt.Sprintf("the agent does not run (no socket at %s): "+
			"start it with 'socketplane agent' or 'systemctl start socketplane'", c.path)}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &unreachableError{cause: err, text: fmt.Sprintf("the agent does not run (nobody serves %s): "+
			"start it with 'socketplane agent' or 'systemctl start socketplane'", c.path)}
	case errors.Is(err, fs.ErrPermission):
		return &unreachableError{cause: err, text: fmt.Sprintf("only root may ask the agent (permission denied on %s): "+
			"run this command as root, for example with sudo", c.path)}
	case errors.Is(err, context.DeadlineExceeded):
		return &unreachableError{cause: err, text: fmt.Sprintf("the agent at %s does not answer in time: "+
			"look at its log with 'journalctl -u socketplane'", c.path)}
	}
	return &unreachableError{cause: err, text: fmt.Sprintf("the agent at %s broke off: "+
		"look at its log with 'journalctl -u socketplane': %v", c.path, err)}
}

// unreachableError reads as one sentence and still is both ErrUnreachable and its cause.
type unreachableError struct {
	text  string
	cause error
}

func (e *unreachableError) Error() string { return e.text }

func (e *unreachableError) Unwrap() []error { return []error{ErrUnreachable, e.cause} }
