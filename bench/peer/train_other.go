//go:build !linux

package peer

import "net"

// writeTrain sends packets back to back.
func writeTrain(conn *net.UDPConn, to *net.UDPAddr, _ int, packets [][]byte) error {
	for _, p := range packets {
		if _, err := conn.WriteToUDP(p, to); err != nil {
			return err
		}
	}
	return nil
}
