// Package doctor makes misconfigurations on the hosts of a lab, one after the other, and asks `socketplane doctor` what is wrong: the
// right check must name the cause and a cure, and a cure that is a command must mend it. Healthy hosts of several kinds must have
// no alarm.
//
// It owns only the labs that it starts. It may import test/lab and internal/testenv; it knows of SocketPlane only
// what the command line shows.
package doctor
