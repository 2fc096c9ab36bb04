package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// ErrNoLeader says that a Consul answers and has no leader.
var ErrNoLeader = errors.New("no leader")

// connectAnswer is how long a name or a connection may take each: less than callers give for all, so that it is known which of the two was late.
const connectAnswer = 800 * time.Millisecond

// connect makes a connection. Its error is a *net.DNSError where the name can't be looked up, or not in time.
func connect(ctx context.Context, network, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if network != "unix" && err == nil && net.ParseIP(host) == nil {
		lookup, cancel := context.WithTimeout(ctx, connectAnswer)
		found, err := net.DefaultResolver.LookupHost(lookup, host)
		cancel()
		if err != nil {
			return nil, err
		}
		addr = net.JoinHostPort(found[0], port)
	}
	dialer := net.Dialer{Timeout: connectAnswer}
	return dialer.DialContext(ctx, network, addr)
}

// Consul asks the Consul at an address (HOST:PORT, or a URL with http, https or unix) who its leader is, which needs no token. It returns nil
// if there is one. A certificate that can't be verified here says only that a TLS server answers: other requests may trust another authority.
func Consul(ctx context.Context, address string) error {
	url := strings.TrimSuffix(address, "/")
	path, unix := strings.CutPrefix(url, "unix://")
	if unix {
		url = "http://consul"
	}
	var dialled atomic.Pointer[error] // how the way to a connection ended: the client only says that the time was over
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if unix {
			network, addr = "unix", path
		}
		conn, err := connect(ctx, network, addr)
		dialled.Store(&err)
		return conn, err
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DialContext: dial}
	if !strings.Contains(url, "://") {
		url = "http://" + url
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/v1/status/leader", nil)
	if err != nil {
		return fmt.Errorf("ask Consul: %w", err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	switch {
	case errors.As(err, &verify), errors.As(err, &alert):
		return nil
	case err != nil:
		if failed := dialled.Load(); failed != nil && *failed != nil {
			err = *failed
		}
		return fmt.Errorf("ask Consul: %w", err)
	}
	defer resp.Body.Close()
	const most = 1 << 10
	text, err := io.ReadAll(io.LimitReader(resp.Body, most))
	if err != nil {
		return fmt.Errorf("ask Consul: %w", err)
	}
	leader := ""
	switch err := json.Unmarshal(text, &leader); {
	case bytes.Contains(text, []byte("No cluster leader")), bytes.Contains(text, []byte("No known Consul servers")): // agents say so with status 500
		return fmt.Errorf("ask Consul: %w: %s", ErrNoLeader, text)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("ask Consul: %s: %s", resp.Status, strings.TrimSpace(string(text)))
	case err != nil:
		return fmt.Errorf("ask Consul: %w", err)
	case leader == "":
		return fmt.Errorf("ask Consul: %w", ErrNoLeader)
	}
	return nil
}
