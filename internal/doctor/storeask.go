package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/socketplane/socketplane/store"
)

// silent says why a store does not answer the agent. A question of our own tells what is at its address where the agent's error does not: a call
// that waits for something ends by its time.
func (d StoreDeps) silent(ctx context.Context, err error) Finding {
	if d.loopbackDown() {
		return Error("the link lo is down, by which the store at "+d.Address+" is reached: "+err.Error(), withoutStore, "ip link set lo up")
	}
	if !timedOut(err) && !brokenOff(err) {
		return d.judge(err, err)
	}
	if pid := d.Files.stopped("consul"); pid != 0 {
		return Error(fmt.Sprintf("Consul (process %d of this host) is stopped by a signal (SIGSTOP, or a debugger): %v", pid, err), withoutStore, fmt.Sprintf("kill -CONT %d", pid))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), consulAnswer) // the agent's question has used its time
	defer cancel()
	seen := d.Ask(ctx, d.Address)
	if seen == nil {
		return Error(fmt.Sprintf("Consul at %s answers, but not what the agent asks: %v", d.Address, err), withoutStore,
			"wait a moment; if it stays, see the load of Consul's servers and "+d.Log)
	}
	return d.judge(seen, err)
}

// loopbackDown says that the store is on this host's loopback, and that is down.
func (d StoreDeps) loopbackDown() bool {
	address := d.Address
	if _, rest, ok := strings.Cut(address, "://"); ok {
		address = rest
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil || d.Links == nil {
		return false
	}
	if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
		return false
	}
	all, err := d.Links()
	lo, there := named(all, "lo")
	return err == nil && there && !lo.Up
}

// withoutStore is what follows when the store does not answer.
const withoutStore = "networks can't be made or removed, and other hosts do not hear of containers that start here; those that run keep talking"

// consulAnswer is how long Consul may take to say who leads it, which it does without asking others.
const consulAnswer = 2 * time.Second

// judge says what an error means that was seen at the store's address; err is the agent's own.
func (d StoreDeps) judge(seen, err error) Finding {
	saw, cure := d.known(seen)
	if saw == "" {
		saw, cure = "the store does not answer as it should", "as said; see Consul's log at "+d.Address+", or give another address with --consul-addr"
	}
	if d.Own && !errors.Is(seen, store.ErrNoLeader) {
		cure = "see the cluster"
	}
	if d.Alone {
		cure = "see the state directory"
	}
	if seen.Error() != err.Error() {
		saw += " (" + seen.Error() + ")"
	}
	return Error(saw+": "+err.Error(), withoutStore, cure)
}

// known gives what an error means, and what mends it; "" for one that is not known.
func (d StoreDeps) known(err error) (saw, cure string) {
	var name *net.DNSError
	var dial *net.OpError
	switch {
	case errors.Is(err, store.ErrDenied):
		return "Consul refuses the agent's token", "give the agent a token (CONSUL_HTTP_TOKEN in its environment) that Consul knows, and whose policy lets it write keys below socketplane/ and sessions; then restart it"
	case errors.Is(err, store.ErrNoLeader):
		return "Consul has no leader", "see on Consul's servers that a majority of them runs and that they reach each other: consul operator raft list-peers"
	case errors.As(err, &name):
		return "the name in the store's address can't be resolved",
			fmt.Sprintf("see that 'getent hosts %s' answers on this host (/etc/resolv.conf), or give an address with --consul-addr", name.Name)
	case errors.Is(err, fs.ErrNotExist):
		return "there is no socket at " + d.Address, "start Consul, or give its address with --consul-addr"
	case errors.Is(err, syscall.ECONNREFUSED):
		return d.Address + " refuses connections: Consul does not run there", "start Consul, or give its address with --consul-addr"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "there is no way to " + d.Address, "see the tunnel address of this host, and start Consul's host, or give Consul's address with --consul-addr"
	case errors.As(err, &dial) && dial.Op == "dial" && dial.Timeout():
		return d.Address + " gives no answer to a connection",
			"see that Consul's host is up, and that no firewall drops TCP to it; or give another address with --consul-addr"
	case timedOut(err):
		return d.Address + " takes connections and answers nothing: Consul hangs, is stopped by a signal, or has no leader",
			"see that Consul runs there ('systemctl status consul'; a process in state T is stopped, 'kill -CONT' lets it go on), and that a majority of its servers does " +
				"('consul operator raft list-peers'); then start Consul again"
	case brokenOff(err), otherProtocol(err):
		return d.Address + " answers, but not as Consul's HTTP API of this scheme does",
			"give --consul-addr Consul's HTTP port (8500 as a rule), or https:// and its HTTPS port (8501), with CONSUL_CACERT and CONSUL_TLS_SERVER_NAME as its certificate needs them"
	}
	return "", ""
}

// timedOut says that an error is that of a call whose time was over.
func timedOut(err error) bool {
	var timed net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) || errors.As(err, &timed) && timed.Timeout()
}

// brokenOff says that the other end gave up the connection: Consul does when it ends, and so do servers that do not understand.
func brokenOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

// otherProtocol says whether something else answers than an HTTP server of the expected scheme.
func otherProtocol(err error) bool {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var syntax *json.SyntaxError
	if errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &alert) || errors.As(err, &syntax) {
		return true
	}
	for _, words := range []string{"malformed HTTP", "HTTP response to HTTPS client", "HTTP request to an HTTPS server"} { // net/http has no values for them
		if strings.Contains(err.Error(), words) {
			return true
		}
	}
	return false
}
