package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// maxSocketPath is the longest path of a unix socket in bytes: sun_path has 108 with the closing zero (unix(7)).
const maxSocketPath = 107

// maxHostName is the longest name of a host in bytes (RFC 1035, section 2.3.4, as text).
const maxHostName = 253

// These say what is allowed; an [Error] puts the value before them.
var (
	errPort      = errors.New("a UDP port from 1 to 65535")
	errAdvertise = errors.New("an IPv4 or IPv6 address of this host that other hosts reach (no loopback, multicast or zone)")
)

func oneOf[T ~string](allowed ...T) func(T) error {
	return func(v T) error {
		words := make([]string, len(allowed))
		for i, a := range allowed {
			if v == a {
				return nil
			}
			words[i] = string(a)
		}
		last := len(words) - 1
		return fmt.Errorf("%s or %s", strings.Join(words[:last], ", "), words[last])
	}
}

func absolute(v string) error {
	if !filepath.IsAbs(v) || strings.ContainsRune(v, 0) {
		return errors.New("an absolute path")
	}
	return nil
}

func socketPath(v string) error {
	if absolute(v) != nil || len(v) > maxSocketPath || strings.HasSuffix(v, "/") {
		return fmt.Errorf("an absolute path of at most %d bytes", maxSocketPath)
	}
	return nil
}

func ovsdbAddr(v string) error {
	path, ok := strings.CutPrefix(v, "unix:")
	if !ok || socketPath(path) != nil {
		return errors.New("unix: and an absolute path, as in unix:/run/openvswitch/db.sock")
	}
	return nil
}

func dockerAddr(v string) error {
	if v == DockerNone {
		return nil
	}
	if path, ok := strings.CutPrefix(v, "unix://"); ok && socketPath(path) == nil {
		return nil
	}
	if addr, ok := strings.CutPrefix(v, "tcp://"); ok && hostPort(addr) == nil {
		return nil
	}
	return errors.New(`unix://PATH, tcp://HOST:PORT or "none"`)
}

func consulAddr(v string) error {
	if v == "" || hostPort(v) == nil {
		return nil
	}
	wrong := errors.New("HOST:PORT, http://HOST:PORT, https://HOST:PORT or unix://PATH")
	if path, ok := strings.CutPrefix(v, "unix://"); ok {
		if socketPath(path) != nil {
			return wrong
		}
		return nil
	}
	u, err := url.Parse(v)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" || u.User != nil {
		return wrong
	}
	return nil
}

func metricsAddr(v string) error {
	if v != "" && hostPort(v) != nil {
		return errors.New("HOST:PORT, as in 127.0.0.1:9477, or nothing")
	}
	return nil
}

// hostPort takes an empty host too: where we listen it means every address.
func hostPort(v string) error {
	host, port, err := net.SplitHostPort(v)
	if err != nil {
		return err
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("port %q", port)
	}
	if strings.ContainsAny(host, "/ \t\n") {
		return fmt.Errorf("host %q", host)
	}
	return nil
}

func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

func advertisable(a netip.Addr) error {
	if !a.IsValid() {
		return nil
	}
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Zone() != "" {
		return errAdvertise
	}
	return nil
}

func hostName(v string) error {
	ok := len(v) <= maxHostName
	for _, r := range v {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.', r == '_':
		default:
			ok = false
		}
	}
	if v == "" || !ok {
		return fmt.Errorf("1 to %d letters, digits, dots, dashes and underscores", maxHostName)
	}
	return nil
}

// tokenText refuses what an HTTP header cannot carry.
func tokenText(v string) error {
	for _, r := range v {
		if r <= ' ' || r > '~' {
			return errors.New("printable ASCII without spaces")
		}
	}
	return nil
}

// networkName takes what Docker takes, but for its own networks' names.
func networkName(v string) error {
	ok := v != "" && len(v) <= 128 && v != "default" && v != "host" && v != "bridge" && !strings.ContainsAny(v[:1], "_.-")
	for _, r := range v {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.', r == '_':
		default:
			ok = false
		}
	}
	if !ok {
		return errors.New(`a network's name (letters, digits, dots, dashes and underscores; not one of Docker's own), or "none"`)
	}
	return nil
}
