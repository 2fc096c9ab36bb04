package netopt

// Keys and values of --ipam-opt.
const (
	KeyFill = "socketplane.fill"
	FillTop = "top"
)

// IPAM is what the options of a network's address management ask for.
type IPAM struct {
	// Name is the cluster's network whose subnet is wanted, "" if none is named.
	Name string
	// Top says that addresses are chosen from the pool's end.
	Top bool
}

// ParseIPAM reads the options of a network's address management.
func ParseIPAM(options map[string]string) (IPAM, error) {
	var i IPAM
	return i, parse("--ipam-opt", IPAMs(), options, &i)
}

// IPAMs are the rows of --ipam-opt.
func IPAMs() []Row[IPAM] {
	const fill = "SocketPlane fills pools from the top only for copies of networks whose addresses Docker chooses: leave it out"
	return []Row[IPAM]{
		{Key: KeyName, Values: "a network's name", Samples: []string{"web"}, Merge: Here, Help: "takes the subnet of the cluster's network of that name",
			set: func(i *IPAM, value string) error {
				var n Network
				err := setName(&n, value)
				i.Name = n.Name
				return err
			}},
		{Key: KeyFill, Values: only + FillTop, Samples: []string{FillTop}, Merge: Here, Help: "set by SocketPlane for copies of networks whose addresses Docker chooses",
			set: func(i *IPAM, value string) error {
				i.Top = value == FillTop
				return oneOf[IPAM](fill, FillTop)(i, value)
			}},
		{Key: "com.docker.network.ipam.serial", Values: only + "Docker's own", Samples: []string{"true"}, Merge: Here, Help: "set by Swarm's manager", set: engines[IPAM]},
	}
}
