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
)

// ErrNoLeader says that a Consul answers and has no leader.
var ErrNoLeader = errors.New("no leader")

// Consul asks the Consul at an address (HOST:PORT, or a URL with http, https or unix) who its leader is, which needs no token. It returns nil
// if there is one. A certificate that can't be verified here says only that somebody answers: who asks for more may have another authority.
func Consul(ctx context.Context, address string) error {
	var dialer net.Dialer
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, DialContext: dialer.DialContext}
	url := strings.TrimSuffix(address, "/")
	if path, unix := strings.CutPrefix(url, "unix://"); unix {
		url, transport.DialContext = "http://consul", func(ctx context.Context, _, _ string) (net.Conn, error) { return dialer.DialContext(ctx, "unix", path) }
	}
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
