// Package store owns SocketPlane's records: their keys, their JSON form and
// schema versions, and the contract (KV) of the places in which they are kept.
//
// Every key and every record is built here and nowhere else. The package
// imports the standard library only; it knows neither Consul nor bbolt, which
// are behind KV in store/consul and store/bolt, both held to store/storetest.
package store
