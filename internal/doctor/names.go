package doctor

// Names lists all checks, in the order in which they are shown. A check of one of several things begins with its name here: "way to" and
// the host.
func Names() []string {
	return []string{
		nameAgent, nameVersions, nameHostNames, nameIdentity, nameKernel, nameSwitch, nameBridge, nameOffload, nameAddress, nameTunnelPort, nameTracking, nameOwnLinks, nameContainerMTU, nameForwarding, nameFilter,
		nameGateway, nameConntrack, nameLimits, nameStore, nameCluster, nameClocks, nameDocker, nameSight, nameSockets, nameStateDir, nameStale,
		nameNetworks, namePublished, nameSubnets, nameWay,
	}
}

// The names of the checks. Programs read them: they stay.
const (
	nameAgent        = "agent"
	nameVersions     = "agent versions"
	nameHostNames    = "host names"
	nameIdentity     = "host identity"
	nameKernel       = "kernel module"
	nameSwitch       = "Open vSwitch"
	nameBridge       = "bridge"
	nameOffload      = "segmentation offload"
	nameAddress      = "tunnel address"
	nameTunnelPort   = "tunnel port"
	nameTracking     = "tunnel tracking"
	nameOwnLinks     = "own links"
	nameContainerMTU = "container MTU"
	nameForwarding   = "IP forwarding"
	nameFilter       = "reverse path filter"
	nameGateway      = "docker_gwbridge"
	nameConntrack    = "connection tracking"
	nameLimits       = "limits"
	nameStore        = "store"
	nameCluster      = "cluster"
	nameClocks       = "clocks"
	nameDocker       = "Docker"
	nameSight        = "plugin socket"
	nameSockets      = "sockets"
	nameStateDir     = "state directory"
	nameStale        = "stale state"
	nameNetworks     = "networks"
	namePublished    = "published containers"
	nameSubnets      = "subnets"
	nameWay          = "way to"
)
