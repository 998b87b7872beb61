"""Does the service keep its word while parts of it die, stand still, or lose each other?"""
