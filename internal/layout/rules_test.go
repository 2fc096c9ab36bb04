package layout_test

// treeRules hold for a directory and those below it that have no rule of their own.
var treeRules = []rule{
	{"test/vm", []string{"internal/testenv", "test/vm", "test/vm/spec", "golang.org/x/sys/unix"}, nil, "the virtual machine knows nothing of the product"},
	{"test/lab/labprobe", []string{"golang.org/x/sys/unix"}, nil, "the probe runs in containers that have nothing else"},
	{"test/lab", []string{"internal/testenv", "test/lab", "golang.org/x/sync/errgroup", "golang.org/x/sys/unix"}, nil,
		"a lab starts the product's binary, as a user does, and knows none of its packages"},
	{"test/bench", []string{"internal/testenv", "test/bench", "test/lab", "test/scale", "github.com/docker/go-plugins-helpers", "github.com/prometheus/common",
		"github.com/vishvananda", "golang.org/x/sync/errgroup", "golang.org/x/sys/unix"}, nil, "what is measured is the product's binary, not its packages"},
	{"internal/testenv", []string{"internal/testenv", "go.uber.org/goleak", "golang.org/x/sys/unix"}, nil, "real parts for tests must not know the product"},
	{"test/upgrade", []string{"internal/testenv", "internal/testenv/ovs", "test/lab", "golang.org/x/sync/errgroup"}, nil,
		"the other release's packages are not these: both are met by their programs"},
	{"test/internal", []string{"golang.org/x/sync/errgroup", "golang.org/x/sys/unix"}, nil, "what tests share must not know the product"},
	{"test", nil, nil, "tests that only have _test.go files import what they look at"},
}
