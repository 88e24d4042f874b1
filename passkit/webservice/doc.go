// Package webservice reads and writes what devices and a pass web service say to each
// other: version v1 of the protocol that Apple Wallet speaks, and the Android wallets that
// follow it. It has no routes and keeps nothing; a server of any make calls it.
//
//	who, err := webservice.ParseAuthorization(r.Header.Values("Authorization"), r.Header.Get("X-Pass-Client"))
//	since := webservice.ParseTag(r.URL.Query().Get("passesUpdatedSince"))
//	body, err := webservice.ParseRegistration(b)
//	lines, err := webservice.ParseLogs(b)
//
// Devices send members that nobody knows; they are ignored. What a device says of itself
// is bounded and printable when it leaves here.
package webservice
