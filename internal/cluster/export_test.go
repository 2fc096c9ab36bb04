package cluster

// Former makes the host one whose agent is older than store.Keys.Split.
func Former(o *Options) { o.former = true }
