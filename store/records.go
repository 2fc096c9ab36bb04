package store

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"time"
)

// Schema is the version of a store's records as a whole, and of each record whose type does not say otherwise. A record is written with the
// schema that it needs. An agent refuses one that is newer than it knows, that one alone: it may mean something that the agent would destroy.
const Schema = 1

// newest is the highest schema of a record's type that this agent reads.
func newest(record any) int {
	if r, ok := record.(interface{ newest() int }); ok {
		return r.newest()
	}
	return Schema
}

// Network is a network of the cluster. Which hosts have it is told by [NetworkRecords.Bound], [NetworkRecords.BoundTo] and [NetworkRecords.BoundNetworks].
type Network struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	// Name is Docker's name; empty until somebody who knows it has told it.
	Name string `json:"name,omitempty"`
	// VNI is the VXLAN network identifier; no two networks ever share one.
	VNI uint32 `json:"vni"`
	// Pools are the network's subnets, IPv4 before IPv6.
	Pools []netip.Prefix `json:"pools"`
	// MTU is the containers' MTU in bytes if it was asked for; 0 means that each
	// host takes its underlay's.
	MTU      int  `json:"mtu,omitempty"`
	Internal bool `json:"internal,omitempty"`
	// Declared is what Docker's users said of it; nil until somebody who knows it has told it. Only
	// declared networks are made on other hosts.
	Declared *Declaration `json:"declared,omitempty"`
	State    State        `json:"state,omitempty"`
	Nonce    string       `json:"nonce"`
}

func (Network) newest() int { return apartSchema }

// State is the state of a network or of a pool.
type State string

const (
	// Active is the state of a network that hosts may have.
	Active State = ""
	// Deleting says that hosts that still have it remove it. Its name is free.
	Deleting State = "deleting"
	// Closing says that a host removes what no host had when it looked: it looks again, and removes it if the record has not changed. Who joins changes
	// it back to Active. Else it is like Active. Only records of the second layout have it.
	Closing State = "closing"
)

// Declaration is what `docker network create` was told, as far as other hosts' copies need it.
type Declaration struct {
	IPv6       bool `json:"ipv6,omitempty"`
	Attachable bool `json:"attachable,omitempty"`
	// DockerIPAM says that on the host where it was made Docker chooses the addresses, from the bottom of each pool.
	DockerIPAM bool              `json:"docker_ipam,omitempty"`
	Options    map[string]string `json:"options,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	// Subnets say more of some of the network's pools.
	Subnets []Subnet `json:"subnets,omitempty"`
}

// Subnet is the IPAM configuration of one pool.
type Subnet struct {
	CIDR netip.Prefix `json:"cidr"`
	// Range is invalid when addresses come from the whole pool.
	Range   netip.Prefix          `json:"range,omitzero"`
	Gateway netip.Addr            `json:"gateway,omitzero"`
	Aux     map[string]netip.Addr `json:"aux,omitempty"`
}

// Pool is a subnet of the cluster. It lives while a host holds it through
// IPAM or a network uses it. Who holds it is told by [PoolRecords.Holds] and [PoolRecords.Holders].
type Pool struct {
	Schema int          `json:"schema"`
	CIDR   netip.Prefix `json:"cidr"`
	// Network is the id of the network that uses it; empty before CreateNetwork.
	Network string `json:"network,omitempty"`
	// Gateway is the same on all hosts; it may be invalid (none asked for).
	Gateway netip.Addr `json:"gateway,omitzero"`
	// Manager is the host whose Swarm manager asked last, if Swarm is one of the holders.
	Manager string `json:"manager,omitempty"`
	State   State  `json:"state,omitempty"`
	Nonce   string `json:"nonce"`
}

func (Pool) newest() int { return apartSchema }

// Claim says who has an address.
type Claim struct {
	Owner Owner `json:"owner"`
	// Nonce makes two claims differ: Consul accepts an identical second write.
	Nonce string `json:"nonce"`
}

// Block holds the claims of up to 64 neighbouring addresses.
type Block struct {
	Schema int    `json:"schema"`
	Claims Claims `json:"claims"`
}

// Host is what a host tells the others about itself.
type Host struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"`
	Name   string `json:"name"`
	// VTEP is the underlay address at which the host ends its tunnels.
	VTEP netip.Addr `json:"vtep"`
	// Subnets are its connected routes: pools that are chosen by themselves avoid them.
	Subnets []netip.Prefix `json:"subnets,omitempty"`
	// Routed are subnets that it reaches by routers and VPNs: pools that are chosen by themselves avoid them as long as others are free.
	Routed []netip.Prefix `json:"routed,omitempty"`
	// VXLANPort is the UDP port of its tunnels, which must be the same on all hosts; 0 in records of older agents.
	VXLANPort uint16 `json:"vxlan_port,omitempty"`
	// MTU is that of the underlay, in bytes; 0 in records of older agents.
	MTU int `json:"mtu,omitempty"`
	// Uses are the subnets that it uses by itself, and for what: no network of the cluster is made with one that it forbids.
	Uses    []Use  `json:"uses,omitempty"`
	Version string `json:"version"`
	// Layout is the highest layout of the cluster's records that its agent reads and writes; 0 in records of older agents, which know the first.
	Layout  int       `json:"layout,omitempty"`
	Started time.Time `json:"started"`
	// Asked is the question of another machine's agent with this host's id; Answered is the nonce of the last one that this host's agent
	// has answered.
	Asked    *Question `json:"asked,omitempty"`
	Answered string    `json:"answered,omitempty"`
}

// Endpoints are all endpoints of one host on one network.
type Endpoints struct {
	Schema    int        `json:"schema"`
	Network   string     `json:"network"`
	Host      string     `json:"host"`
	Revision  string     `json:"revision"`
	Endpoints []Endpoint `json:"endpoints"`
}

// Endpoint is what other hosts must know to reach it.
type Endpoint struct {
	ID    string       `json:"id"`
	MAC   string       `json:"mac"`
	Addrs []netip.Addr `json:"addrs"`
	// MTU is that of the container's interface, in bytes; 0 in records of older agents.
	MTU int `json:"mtu,omitempty"`
	// Container is who has it; nil until Docker has told.
	Container *Container `json:"container,omitempty"`
}

// Container is what names a container to people and to other containers.
type Container struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// Aliases are its names on the network, without those that Docker makes of its id.
	Aliases []string `json:"aliases,omitempty"`
	// LinkLocal are the addresses of 'docker run --link-local-ip', which Docker tells no driver.
	LinkLocal []netip.Addr      `json:"link_local,omitempty"`
	Labels    map[string]string `json:"labels,omitempty"`
}

// Index is the small record beside Endpoints that is watched.
type Index struct {
	Schema   int    `json:"schema"`
	Revision string `json:"revision"`
}

// NewNonce returns 16 hexadecimal digits that nobody else has.
func NewNonce() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

// Encode gives the stored form of a record.
func Encode(record any) []byte {
	b, err := json.Marshal(record)
	if err != nil { // a record is made of plain values: this is a programming error
		panic(fmt.Sprintf("store: encode %T: %v", record, err))
	}
	return b
}

// schemaAhead begins each record that Encode gives: the schema comes first.
const schemaAhead = `{"schema":`

// readAheadSchema reads the schema of a record that Encode gave without reading the rest, which may be large.
func readAheadSchema(value []byte) (schema int, is bool) {
	rest, is := bytes.CutPrefix(value, []byte(schemaAhead))
	if !is {
		return 0, false
	}
	for i, b := range rest {
		switch {
		case b >= '0' && b <= '9' && i < 6 && !(i == 1 && schema == 0):
			schema = 10*schema + int(b-'0')
		case b == ',' || b == '}':
			return schema, i > 0
		default:
			return 0, false
		}
	}
	return 0, false
}

// SchemaOf tells of which schema a record is; 0 if it does not say.
func SchemaOf(e Entry) (int, error) {
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(e.Value, &head); err != nil {
		return 0, fmt.Errorf("%w: record %s is not readable: %w", ErrInvalid, e.Key, err)
	}
	if head.Schema < 0 {
		return 0, fmt.Errorf("%w: record %s has schema %d, which never was", ErrInvalid, e.Key, head.Schema)
	}
	return head.Schema, nil
}

// Decode reads a record, and refuses one of a newer schema with ErrInvalid and ErrNewer.
func Decode[T any](e Entry) (T, error) {
	var record, none T
	ahead, is := readAheadSchema(e.Value)
	if !is {
		if err := knownSchema(e, newest(record)); err != nil {
			return none, err
		}
	} else if err := refuseNewer(e, ahead, newest(record)); err != nil {
		return none, err
	}
	if err := json.Unmarshal(e.Value, &record); err != nil {
		return record, fmt.Errorf("%w: record %s is not readable: %w", ErrInvalid, e.Key, err)
	}
	if is && schemaIn(record, ahead) != ahead { // it says it twice, and the last counts
		if err := knownSchema(e, newest(none)); err != nil {
			return none, err
		}
	}
	return record, nil
}

// knownSchema refuses a record whose schema is newer than known, or can't be read.
func knownSchema(e Entry, known int) error {
	schema, err := SchemaOf(e)
	if err != nil {
		return err
	}
	return refuseNewer(e, schema, known)
}

func refuseNewer(e Entry, schema, known int) error {
	if schema <= known {
		return nil
	}
	return fmt.Errorf("%w: %w: record %s has schema %d, this agent knows %d: upgrade socketplane on this host", ErrInvalid, ErrNewer, e.Key, schema, known)
}

// schemaIn is the field Schema of a record, or otherwise what is given where it has none.
func schemaIn(record any, otherwise int) int {
	v := reflect.ValueOf(record)
	if v.Kind() != reflect.Struct {
		return otherwise
	}
	if f := v.FieldByName("Schema"); f.IsValid() && f.CanInt() {
		return int(f.Int())
	}
	return otherwise
}
