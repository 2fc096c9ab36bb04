// Package config owns what an operator can set: the defaults, the names of the flags and environment
// variables, and one validated struct that the rest of the program reads.
//
// A flag wins over an environment variable, and that over the default. Each setting is one row of [Settings];
// the command line binds the rows to its flag library and hands the values back through [Load], so that nothing
// here is tied to one, and every rule is tested without starting anything.
//
// It imports the standard library only, and must not know its consumers: neither what a store does with an
// address nor what listens on a socket. It opens and dials nothing.
package config
