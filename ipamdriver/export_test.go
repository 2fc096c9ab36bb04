package ipamdriver

import "time"

// WaitForOthers changes how long a request waits for other hosts' spares; no request may be under way.
func (d *Driver) WaitForOthers(wait time.Duration) { d.recallWait = wait }
