package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/socketplane/socketplane/internal/testenv"
)

// Machine is what of the machine matters for the figures; it has no names or paths.
type Machine struct {
	Cores     int
	CPU       string
	MemoryGiB float64
	Kernel    string
	// Load is the load average of the minute before the run.
	Load     float64
	Versions []string
}

// machine reads what it can; what it can't is left empty.
func machine(ctx context.Context) Machine {
	m := Machine{Cores: runtime.NumCPU(), CPU: cpuModel(), Load: load()}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		// What follows the version is the builder's.
		m.Kernel, _, _ = strings.Cut(unix.ByteSliceToString(uts.Release[:]), "-")
	}
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) == nil {
		m.MemoryGiB = float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	}
	consul, _ := testenv.ConsulBinary() // Without it the run fails later, and says why.
	for _, v := range []struct {
		name string
		argv []string
	}{
		{"Open vSwitch", []string{"ovs-vswitchd", "--version"}},
		{"Docker Engine", []string{"dockerd", "--version"}},
		{"iperf3", []string{"iperf3", "--version"}},
		{"Consul", []string{consul, "version"}},
	} {
		out, err := exec.CommandContext(ctx, v.argv[0], v.argv[1:]...).Output()
		if number := versionNumber.FindString(string(out)); err == nil && number != "" {
			m.Versions = append(m.Versions, fmt.Sprintf("%s %s", v.name, number))
		}
	}
	m.Versions = append(m.Versions, "Go "+strings.TrimPrefix(runtime.Version(), "go"))
	return m
}

var versionNumber = regexp.MustCompile(`\d+(\.\d+)+`)

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo") // Without it the model stays empty.
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// load is the machine's load average of the last minute.
func load() float64 {
	text, _ := os.ReadFile("/proc/loadavg") // Without it the load is 0.
	first, _, _ := strings.Cut(string(text), " ")
	value, _ := strconv.ParseFloat(first, 64)
	return value
}
