"""The core client on a rig: takes work, trains, and hands the result over; outbound connections only."""
