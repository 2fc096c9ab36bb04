// Package retry is what loops share that try something again and again: how long they pause between two attempts, and what they
// log of a failure that lasts.
//
// It imports the standard library only, and must not know what is tried.
package retry
