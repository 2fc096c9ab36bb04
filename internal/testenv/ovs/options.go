package ovs

// Option changes how Start starts the switch.
type Option func(*settings)

type settings struct {
	netns  string
	config []string
}

// InNetNS runs ovs-vswitchd in the network namespace at path (such as
// /run/netns/NAME), which stays the caller's. Without it the switch gets a
// fresh namespace, which goes with it.
func InNetNS(path string) Option { return func(s *settings) { s.netns = path } }

// WithTSO turns on segmentation offload of the user-space datapath.
func WithTSO() Option { return WithConfig("other_config:userspace-tso-enable=true") }

// WithConfig sets columns of the Open_vSwitch record before ovs-vswitchd
// starts: some are read only then.
func WithConfig(columns ...string) Option {
	return func(s *settings) { s.config = append(s.config, columns...) }
}
