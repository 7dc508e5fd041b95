"""What holds admission back besides limits: no room, refused or stuck pods, an absent dependency."""
