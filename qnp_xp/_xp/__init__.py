"""Array libraries, devices, threads and time: what all rooms stand on."""
