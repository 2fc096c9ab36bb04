package scale

import "time"

// OutVar is the environment variable that makes TestMeasure run the whole plan, with the path of the file that gets the Figures as JSON; PlanVar has a Plan as
// JSON; AgentVar is the agent's binary instead of one built from this checkout.
const (
	OutVar   = "SOCKETPLANE_SCALE_OUT"
	PlanVar  = "SOCKETPLANE_SCALE_PLAN"
	AgentVar = "SOCKETPLANE_SCALE_AGENT"
)

// Plan is what TestMeasure measures. Zero is not measured.
type Plan struct {
	// Sizes are numbers of other hosts, with Each endpoints.
	Sizes []int
	Each  int
	// Updates and Attaches are how often these are taken at each size, at most.
	Updates, Attaches int
	// Rest is how long an agent is watched at rest.
	Rest time.Duration
	// Crowd is how many endpoints one host gets, a tenth at a time; Networks how many networks one host gets; Binds how many hosts bind one network.
	Crowd, Networks, Binds int
}

// Full is what the page of benchmarks shows.
func Full() Plan {
	return Plan{Sizes: []int{10, 100, 1000}, Each: 100, Updates: 60, Attaches: 40, Rest: 65 * time.Second, Crowd: 1000, Networks: 200, Binds: 300}
}

// Figures are what TestMeasure has measured. Times are in milliseconds where the name says nothing else.
type Figures struct {
	Sizes    []*Size
	Crowd    *Crowd
	Networks *Networks
	Binds    *Binds
}

// Size is one cluster: a host with one container on a network, on which Hosts others have Each endpoints.
type Size struct {
	Hosts, Each int
	// Update is from a host's write of its endpoints until the new one's flow is in the switch; UpdateCPU is the agent's for one, the mean;
	// UpdateBytes is what the agent read of Consul for one, the mean.
	Update      []float64
	UpdateCPU   float64
	UpdateBytes float64
	// Attach is CreateEndpoint and Join of a further container here.
	Attach []float64
	// Memory is the agent's in MiB, at rest; MemoryMost the most there ever was.
	Memory, MemoryMost float64
	// RestCPU is the agent's share of a core while nothing happens, in percent; RestBytes is what it reads of Consul then, in bytes a second.
	RestCPU, RestBytes float64
	// First is from the first start of the agent, without state, until all endpoints are in the switch, with the creation of the network and of a
	// container, in seconds. Restart is from a further start until a change that was made meanwhile is in the switch, in seconds.
	First, Restart float64
	// Gaps is how many flows of other hosts' endpoints were deleted while the agent was restarted, though all endpoints stayed.
	Gaps int
	// Endpoints, NetworkList and Inspect are `endpoint ls`, `network ls` and `network inspect`, in seconds.
	Endpoints, NetworkList, Inspect float64
	// Failed says what did not work at this size, by the figure's name.
	Failed map[string]string
}

// Crowd is one host with many endpoints on one network, made one after the other.
type Crowd struct {
	Endpoints int
	// AgentCPU and SwitchCPU are those of the agent and of ovs-vswitchd for one endpoint, the mean of each tenth of the endpoints; Attach is
	// CreateEndpoint and Join, the median of each tenth.
	AgentCPU, SwitchCPU, Attach []float64
	// PlainCPU is ovs-vswitchd's for a plain `ip link add` and `ovs-vsctl add-port`, Plain the time of both, by tenths of as many ports.
	PlainCPU, Plain []float64
	// Failed is what went wrong; empty if nothing did.
	Failed string
}

// Networks is one host with many networks, a container on each.
type Networks struct {
	Count int
	// Attach is CreateEndpoint and Join on each network, in order; Create is what comes before it: the subnet, the gateway and the network.
	Attach, Create []float64
	// Plain is `ip link add` of a VXLAN device and of a pair, and `ovs-vsctl add-port` of both in one transaction, after each network, on a switch of its own;
	// PlainCPU and SwitchCPU are ovs-vswitchd's for one of these and for one of ours, the mean of each tenth.
	Plain, PlainCPU, SwitchCPU []float64
	// Failed is what went wrong; empty if nothing did.
	Failed string
}

// Binds is many hosts that bind one network at the same time, with their endpoints, on three Consul servers.
type Binds struct {
	Hosts   int
	Seconds float64
	// Start is how long it took all of them before to write the records of hosts that start, at once, in seconds.
	Start float64
	// Reads and Writes are requests of one host, the mean. Plain is how long as many reads and writes of keys of their own take the same servers, asked at
	// once by as many clients, in seconds: what no way of keeping records can be faster than.
	Reads, Writes, Plain float64
	// Failed is what went wrong first; empty if nothing did.
	Failed string
}
