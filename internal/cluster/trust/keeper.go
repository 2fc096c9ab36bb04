package trust

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Keeper holds this host's identity and credentials, in memory and in a directory. TLS configurations that it gives follow the
// credentials as they change. All methods may be called concurrently.
type Keeper struct {
	path string
	id   *Identity
	life Lifetimes

	mu    sync.Mutex // orders writers
	state *current
	read  sync.RWMutex // guards state
}

// current is one state of the credentials, with what is derived from them.
type current struct {
	creds Credentials
	cert  tls.Certificate
	pool  *x509.CertPool
}

// Open reads identity.pem and credentials.json from dir; the identity is made at first use, and without credentials the host is in no cluster.
func Open(dir string, life Lifetimes) (*Keeper, error) {
	id, err := LoadIdentity(dir)
	if err != nil {
		return nil, err
	}
	k := &Keeper{path: filepath.Join(dir, credentialsFile), id: id, life: life.Complete(), state: &current{pool: x509.NewCertPool()}}
	creds, err := loadCredentials(k.path)
	if err != nil {
		return nil, err
	}
	if creds.Cluster() != "" {
		if k.state, err = derive(creds, id); err != nil {
			return nil, fmt.Errorf("%s: %w", k.path, err)
		}
	}
	return k, nil
}

// Identity is this host's key.
func (k *Keeper) Identity() *Identity { return k.id }

// Credentials are those that are used now.
func (k *Keeper) Credentials() Credentials { return k.now().creds }

// Check says whether this host can use the credentials.
func (k *Keeper) Check(c Credentials) error {
	next, err := derive(c, k.id)
	if err != nil {
		return err
	}
	_, err = next.cert.Leaf.Verify(x509.VerifyOptions{Roots: next.pool, DNSName: memberName})
	return err
}

// Set saves credentials and uses them from now on.
func (k *Keeper) Set(c Credentials) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.set(c)
}

// SetPeers saves who the other members are, if that changed.
func (k *Keeper) SetPeers(peers []Peer) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	c := k.now().creds
	if c.Cluster() == "" || slices.Equal(c.Peers, peers) {
		return nil
	}
	c.Peers = peers
	return k.set(c)
}

// Forget removes the credentials: this host is in no cluster any more. Its identity stays.
func (k *Keeper) Forget() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := removeFile(k.path); err != nil {
		return fmt.Errorf("forget the cluster: %w", err)
	}
	k.use(&current{pool: x509.NewCertPool()})
	return nil
}

func (k *Keeper) set(c Credentials) error {
	next, err := derive(c, k.id)
	if err != nil {
		return fmt.Errorf("credentials: %w", err)
	}
	if err := writeFile(k.path, c.Reveal()); err != nil {
		return fmt.Errorf("save the credentials: %w", err)
	}
	k.use(next)
	return nil
}

func (k *Keeper) now() *current {
	k.read.RLock()
	defer k.read.RUnlock()
	return k.state
}

func (k *Keeper) use(c *current) {
	k.read.Lock()
	defer k.read.Unlock()
	k.state = c
}

func derive(c Credentials, id *Identity) (*current, error) {
	cert, err := pair(c.Cert, id)
	if err != nil {
		return nil, err
	}
	return &current{creds: c, cert: cert, pool: pool(c.Keys)}, nil
}

// early says whether the certificate is not valid yet, as a clock that was ahead when it was made: other hosts refuse it for as long as that clock was
// ahead. A clock that is behind even the authority's beginning is the one that is wrong.
func early(c Credentials, now time.Time) bool {
	cert, err := parseCert(c.Cert)
	if err != nil || len(c.Keys.CAs) == 0 {
		return false
	}
	ca, err := parseCert([]byte(c.Keys.CAs[0].Cert))
	return err == nil && now.Before(cert.NotBefore) && !now.Before(ca.NotBefore)
}

// good says whether the certificate fits, and is valid by now.
func (k *Keeper) good(c Credentials, host Subject, now time.Time) bool {
	return k.fits(c, host, now) && !early(c, now)
}

// fits says whether the certificate is one for these keys and this host: by the authority in use, for its address, for a server or
// not, and with a third of its life left at least.
func (k *Keeper) fits(c Credentials, host Subject, now time.Time) bool {
	cert, err := parseCert(c.Cert)
	if err != nil || len(c.Keys.CAs) == 0 {
		return false
	}
	ca, err := parseCert([]byte(c.Keys.CAs[0].Cert))
	if err != nil || cert.CheckSignatureFrom(ca) != nil {
		return false
	}
	return !due(cert, k.life.Leaf, now) && cert.Subject.CommonName == host.ID && (cert.VerifyHostname(ServerName) != nil) == host.Client &&
		(!host.Addr.IsValid() || cert.VerifyHostname(host.Addr.Unmap().String()) == nil)
}
