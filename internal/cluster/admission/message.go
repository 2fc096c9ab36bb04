package admission

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/socketplane/socketplane/internal/cluster/trust"
	"github.com/socketplane/socketplane/store"
)

// version of what is said.
const version = 1

// Limits of a question and of an answer in bytes. A question is below one KiB; an answer has 200 bytes for each member.
const (
	maxAsk    = 4 << 10
	maxAnswer = 4 << 20
)

// Host is what a host that asks says of itself.
type Host struct {
	// ID has lower-case letters, digits and dashes: Consul ignores case in the names of nodes and policies.
	ID   string     `json:"id"`
	Name string     `json:"name"`
	Addr netip.Addr `json:"addr"`
	// Port is the first of its four ports.
	Port uint16 `json:"port"`
}

// ask is a question. Secrets are plain here: this is the wire.
type ask struct {
	Version int  `json:"version"`
	Host    Host `json:"host"`
	// Cluster is the cluster that is meant, "" for any.
	Cluster string `json:"cluster,omitempty"`
	// Again says that the host believes to be a member.
	Again  bool   `json:"again,omitempty"`
	Token  string `json:"token,omitempty"`
	Secret string `json:"secret,omitempty"`
	// Trust is store.Member.Trust of the host; former agents don't send it.
	Trust int `json:"trust,omitempty"`
	// Epoch is that of the keys which a member uses, 0 for those that it gets.
	Epoch uint64 `json:"epoch,omitempty"`
	// Do is what a member wants to be done, empty to be admitted.
	Do Action `json:"do,omitempty"`
	// Leaving goes with Report, Target with Remove, Forget and RemoveToken, Join with CreateToken.
	Leaving bool             `json:"leaving,omitempty"`
	Target  string           `json:"target,omitempty"`
	Join    *store.JoinToken `json:"join,omitempty"`
}

// answer is what comes back: credentials, a refusal, or that it was done.
type answer struct {
	Version     int             `json:"version"`
	Done        bool            `json:"done,omitempty"`
	Credentials json.RawMessage `json:"credentials,omitempty"`
	Refused     *refusal        `json:"refused,omitempty"`
}

type refusal struct {
	Code Code   `json:"code"`
	Text string `json:"text"`
}

// Code says why a host was refused.
type Code string

// Reasons of refusals.
const (
	CodeLocked       Code = "locked"
	CodeToken        Code = "token"
	CodeTokenExpired Code = "token-expired"
	CodeTokenSpent   Code = "token-spent"
	CodeOtherKey     Code = "other-key"
	CodeNotMember    Code = "not-member"
	CodeOtherCluster Code = "other-cluster"
	CodeNotNow       Code = "not-now"
	CodeBadRequest   Code = "bad-request"
	CodeOldAgent     Code = "old-agent"
	CodeFull         Code = "full"
	// CodeCopy is for a host that is up at another address: the one that asks has a copy of its id and key.
	CodeCopy Code = "copy"
	// CodeAddress is for a host whose address another host has that is up.
	CodeAddress Code = "address"
	// CodeConflict is for what a member wants to be done and can't be.
	CodeConflict Code = "conflict"
	CodeNotFound Code = "not-found"
)

// Refused is the error of a host that was refused. It is matched with errors.As.
type Refused struct {
	Code Code
	// Text says why, and what helps.
	Text string
}

func (r *Refused) Error() string { return r.Text }

// Is reports whether target is a refusal for the same reason.
func (r *Refused) Is(target error) bool {
	var other *Refused
	return errors.As(target, &other) && other.Code == r.Code
}

func refuse(code Code, format string, args ...any) *Refused {
	return &Refused{Code: code, Text: fmt.Sprintf(format, args...)}
}

// readAsk reads one question; what it returns can be stored and logged.
func readAsk(r io.Reader) (ask, error) {
	var a ask
	if err := json.NewDecoder(io.LimitReader(r, maxAsk)).Decode(&a); err != nil {
		return ask{}, refuse(CodeBadRequest, "the question is not readable: is socketplane on both hosts of the same version?")
	}
	h := &a.Host
	h.Addr = h.Addr.Unmap().WithZone("")
	switch {
	case a.Version != version:
		return a, refuse(CodeBadRequest, "the question has version %d, this host knows %d: bring both hosts to the same version of socketplane", a.Version, version)
	case !plain(h.ID, 64) || h.ID != strings.ToLower(h.ID) || store.ValidKey(store.MemberKey(h.ID)) != nil || len(h.ID) < 8:
		return a, refuse(CodeBadRequest, "the host's id is not one: empty its state directory")
	case !printable(h.Name, 255):
		return a, refuse(CodeBadRequest, "the host's name is not printable: set another one with --name")
	case !h.Addr.IsValid() || h.Addr.IsUnspecified() || h.Addr.IsMulticast() || h.Port == 0:
		return a, refuse(CodeBadRequest, "the host's address is not one that others can reach: set it with --advertise")
	case !plain(a.Cluster, 64) && a.Cluster != "" || !plain(a.Token, 64) && a.Token != "" || len(a.Secret) > 256:
		a.Token, a.Secret = "", "" // it may be the secret, and it is logged
		return a, refuse(CodeBadRequest, "cluster or token is not one: copy the token again, whole")
	case !a.Do.known() || a.Target != "" && !plain(a.Target, 64) || (a.Join != nil) != (a.Do == CreateToken) || a.Join != nil && !sound(*a.Join):
		return a, refuse(CodeBadRequest, "what is to be done is not known here: bring both hosts to the same version of socketplane")
	}
	return a, nil
}

// readAnswer reads the answer to who asked for credentials, or else for something to be done. A refusal is a *Refused.
func readAnswer(r io.Reader, credentials bool) (trust.Credentials, error) {
	var a answer
	if err := json.NewDecoder(io.LimitReader(r, maxAnswer)).Decode(&a); err != nil {
		return trust.Credentials{}, fmt.Errorf("the answer is not readable: %w", transport(err))
	}
	switch {
	case a.Refused != nil:
		return trust.Credentials{}, &Refused{Code: a.Refused.Code, Text: clean(a.Refused.Text)}
	case a.Version != version:
		return trust.Credentials{}, fmt.Errorf("the answer has version %d, this host knows %d: bring both hosts to the same version of socketplane", a.Version, version)
	case !credentials && a.Done:
		return trust.Credentials{}, nil
	case !credentials:
		return trust.Credentials{}, errors.New("the answer does not say that it was done")
	}
	return trust.ParseCredentials(a.Credentials)
}

// transport leaves out what a decoder's error quotes.
func transport(err error) error {
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) {
		return errors.New("it is not the JSON that was expected")
	}
	return err
}

// plain says whether text has letters, digits and dashes only, and not too many.
func plain(text string, most int) bool {
	if text == "" || len(text) > most {
		return false
	}
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-') {
			return false
		}
	}
	return true
}

func printable(text string, most int) bool {
	if text == "" || len(text) > most || !utf8.ValidString(text) {
		return false
	}
	for _, r := range text {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// clean makes a text of somebody else's fit for a terminal and a log.
func clean(text string) string {
	out := make([]rune, 0, len(text))
	for _, r := range text {
		if unicode.IsPrint(r) && len(out) < 1000 {
			out = append(out, r)
		}
	}
	return string(out)
}
