package trust

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"github.com/socketplane/socketplane/store"
)

const (
	credentialsFile   = "credentials.json"
	credentialsSchema = 2
	// sharedSchema is that of credentials of a cluster that is not Split, as former agents write and read them.
	sharedSchema = 1
)

// Peer is a member as this host last knew it: where to ask, and which key must answer.
type Peer struct {
	ID   string         `json:"id"`
	Name string         `json:"name"`
	Addr netip.AddrPort `json:"addr"`
	Key  string         `json:"key"`
	// Server says that its Consul was a server, so that it holds all keys.
	Server bool `json:"server,omitempty"`
}

// Credentials are what a host has to be a member: of the cluster's keys those that it may hold, its own certificate and Consul
// token, and who the others are. The zero Credentials belong to no cluster.
type Credentials struct {
	Keys store.Keys
	// Token is this host's own Consul token, which reaches the records that a member may write. It is empty unless Keys are Split.
	Token store.Secret
	// Cert is this host's certificate in PEM; the key is its Identity's.
	Cert  []byte
	Peers []Peer
}

// credentialsRecord is the form on disk and on the wire.
type credentialsRecord struct {
	Schema int             `json:"schema"`
	Keys   json.RawMessage `json:"keys"`
	Cert   string          `json:"certificate"`
	Token  string          `json:"token,omitempty"`
	Peers  []Peer          `json:"peers"`
}

// Cluster is the cluster's id, "" for none.
func (c Credentials) Cluster() string { return c.Keys.Cluster }

// Bundle is the certificates of all authorities in PEM, for Consul's ca_file.
func (c Credentials) Bundle() []byte { return bundle(c.Keys) }

// Keyring is the content of Consul's serf/local.keyring.
func (c Credentials) Keyring() []byte {
	keys := make([]string, 0, len(c.Keys.Gossip))
	for _, g := range c.Keys.Gossip {
		keys = append(keys, g.Reveal())
	}
	return store.Encode(keys)
}

// Reveal gives the stored form, with its secrets.
func (c Credentials) Reveal() []byte {
	schema := credentialsSchema
	if !c.Keys.Split {
		schema = sharedSchema
	}
	return store.Encode(credentialsRecord{
		Schema: schema, Keys: store.RevealKeys(c.Keys), Cert: string(c.Cert), Token: c.Token.Reveal(), Peers: c.Peers,
	})
}

// StoreToken is the Consul token with which this host reads and writes the cluster's records. Who holds the management token
// needs no other.
func (c Credentials) StoreToken() store.Secret {
	switch {
	case !c.Keys.Split:
		return c.Keys.ConsulToken
	case c.Keys.Private():
		return c.Keys.ManagementToken()
	}
	return c.Token
}

// OperatorToken is the most that this host may do in Consul.
func (c Credentials) OperatorToken() store.Secret {
	if c.Keys.Private() {
		return c.Keys.ManagementToken()
	}
	return c.Token
}

// ProcessToken is for Consul's own bookkeeping of this host.
func (c Credentials) ProcessToken() store.Secret {
	if !c.Keys.Split {
		return c.Keys.AgentToken
	}
	return c.Token
}

// ParseCredentials reads what Reveal wrote. Its errors don't quote it.
func ParseCredentials(text []byte) (Credentials, error) {
	var r credentialsRecord
	if err := json.Unmarshal(text, &r); err != nil {
		return Credentials{}, errors.New("credentials: not readable as JSON")
	}
	if r.Schema > credentialsSchema {
		return Credentials{}, fmt.Errorf("credentials: schema %d, this agent knows %d: upgrade socketplane on this host", r.Schema, credentialsSchema)
	}
	keys, err := store.DecodeKeys(r.Keys)
	if err != nil {
		return Credentials{}, fmt.Errorf("credentials: %w", err)
	}
	switch _, err := parseCert([]byte(r.Cert)); {
	case keys.Cluster == "":
		return Credentials{}, errors.New("credentials: they name no cluster")
	case len(keys.CAs) == 0 || len(keys.Gossip) == 0:
		return Credentials{}, errors.New("credentials: keys are missing")
	case err != nil:
		return Credentials{}, fmt.Errorf("credentials: certificate: %w", err)
	}
	return Credentials{Keys: keys, Cert: []byte(r.Cert), Token: store.NewSecret(r.Token), Peers: r.Peers}, nil
}

// Found makes the keys of a new cluster, whose only member is this host.
func Found(id *Identity, host Subject, locked bool, life Lifetimes, now time.Time) (Credentials, error) {
	life = life.Complete()
	cluster := store.NewNonce()
	ca, err := newAuthority(cluster, life.CA, now)
	if err != nil {
		return Credentials{}, fmt.Errorf("found a cluster: %w", err)
	}
	keys := store.Keys{
		Schema: store.Schema, Cluster: cluster, Locked: locked, CAs: []store.Authority{ca}, Gossip: []store.Secret{newGossipKey()},
		Epoch: 1, Since: now.UTC(), Split: true, Management: []store.Secret{store.NewSecret(uuid())},
	}
	cert, err := Issue(keys, host, id.Public(), life.Leaf, now)
	if err != nil {
		return Credentials{}, fmt.Errorf("found a cluster: %w", err)
	}
	return Credentials{Keys: keys, Cert: cert, Token: store.NewSecret(uuid())}, nil
}

// Share turns the keys of a new cluster into those that agents without Keys.Split know: every member holds all of them.
func Share(c Credentials) Credentials {
	c.Keys.Split, c.Token = false, store.Secret{}
	c.Keys.ConsulToken, c.Keys.AgentToken = store.NewSecret(uuid()), store.NewSecret(uuid())
	return c
}

// Peers makes peers of members, without the host itself.
func Peers(members []store.Member, self string) []Peer {
	var peers []Peer
	for _, m := range members {
		if m.ID != self {
			peers = append(peers, Peer{ID: m.ID, Name: m.Name, Addr: m.AddrPort(), Key: m.Key, Server: m.Role == store.RoleServer})
		}
	}
	return peers
}

// newGossipKey is what `consul keygen` makes.
func newGossipKey() store.Secret {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return store.NewSecret(base64.StdEncoding.EncodeToString(b[:]))
}

func loadCredentials(path string) (Credentials, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Credentials{}, nil
	}
	if err != nil {
		return Credentials{}, err
	}
	c, err := ParseCredentials(text)
	if err != nil {
		return Credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}
